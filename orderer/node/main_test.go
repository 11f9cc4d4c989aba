package node

import (
	"io"
	"os"
	"testing"

	"google.golang.org/grpc/grpclog"
)

// TestMain silences the gRPC library.
func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	os.Exit(m.Run())
}
