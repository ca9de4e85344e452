"""Which IP addresses are of the open internet, and which lead into a private network."""

import ipaddress

# All that IPv6 routes on the open internet (RFC 4291, section 2.4): outside of it lie NAT64, site-local addresses and
# IPv4 addresses in other words. Teredo and 6to4 lie within and lead to IPv4 addresses of their own.
_UNICAST = ipaddress.IPv6Network("2000::/3")
_TRANSLATED = (ipaddress.IPv6Network("2001::/32"), ipaddress.IPv6Network("2002::/16"))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip not in _UNICAST or any(ip in network for network in _TRANSLATED):
            return False
    return ip.is_global and not ip.is_multicast
