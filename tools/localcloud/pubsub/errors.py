"""The gRPC statuses that the emulator answers with."""

import grpc


class RpcError(Exception):
    """Ends an RPC with `status` and a detail that the client shows."""

    status = grpc.StatusCode.INTERNAL


class InvalidArgumentError(RpcError):
    """The request itself is wrong."""

    status = grpc.StatusCode.INVALID_ARGUMENT


class NotFoundError(RpcError):
    """The named topic or subscription does not exist."""

    status = grpc.StatusCode.NOT_FOUND


class AlreadyExistsError(RpcError):
    """The name is taken."""

    status = grpc.StatusCode.ALREADY_EXISTS


class FailedPreconditionError(RpcError):
    """The subscription is of a kind that does not allow this call."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class UnimplementedError(RpcError):
    """Pub/Sub can do this, the emulator cannot."""

    status = grpc.StatusCode.UNIMPLEMENTED
