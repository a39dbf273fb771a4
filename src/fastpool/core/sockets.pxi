# Looks at sockets, for the pools of `contrib.redis` and `contrib.valkey`.

def socket_is_silent(int fd):
    """Whether nothing can be read from this socket now, not even the end of the stream or an error.
    Does not wait, and keeps the GIL; False in doubt."""
    return fp_socket_is_silent(fd)
