package rpc

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Encoded is a message that is on wire form already. Given to SendMsg of a
// stream it goes out without being copied, so that a message waiting for many
// slow readers is in memory once. It must not change any more.
type Encoded []byte

// codec is the standard codec, and sends Encoded messages as they are.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

func (c codec) Marshal(m any) (mem.BufferSlice, error) {
	if e, ok := m.(Encoded); ok {
		return mem.BufferSlice{mem.SliceBuffer(e)}, nil
	}
	return c.CodecV2.Marshal(m)
}
