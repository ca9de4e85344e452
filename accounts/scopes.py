"""What a key may be allowed to do: one scope for each family of endpoints."""

# Never among "everything": a key has it only by name, made by staff and while they are staff.
ADMIN = "admin"
SCOPES = {
    "chat": "Chat completions",
    "completions": "Completions",
    "embeddings": "Embeddings",
    "responses": "Responses",
    "images": "Images",
    "audio": "Audio",
    "moderations": "Moderations",
    "realtime": "Realtime",
    "models": "List models",
    "passthrough": "Other paths of the provider",
    "management": "Credits, usage and keys of the organization",
    ADMIN: "Administration of this site",
}
ENDPOINTS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
    "/v1/moderations": "moderations",
    "/v1/messages": "chat",
    "/v1/images/generations": "images",
    "/v1/images/edits": "images",
    "/v1/images/variations": "images",
    "/v1/audio/transcriptions": "audio",
    "/v1/audio/translations": "audio",
    "/v1/audio/speech": "audio",
    "/v1/models": "models",
}
