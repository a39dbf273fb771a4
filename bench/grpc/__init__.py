"""What a shared gRPC channel must reach, measured beside bare grpcio: `python -m bench.grpc`."""
