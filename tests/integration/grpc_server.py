"""The gRPC server of the tests, which is that of the measurements."""

from bench.grpc.server import SERVICE, Counts, GrpcServer, ServerFailed

__all__ = ["SERVICE", "Counts", "GrpcServer", "ServerFailed"]
