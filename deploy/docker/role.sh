#!/bin/sh
set -eu
psql -v ON_ERROR_STOP=1 -v password="$POSTGRES_PASSWORD" --username postgres <<'SQL'
CREATE ROLE tuppence LOGIN PASSWORD :'password';
CREATE DATABASE tuppence OWNER tuppence;
SQL
