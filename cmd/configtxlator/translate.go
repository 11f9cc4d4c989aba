package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/protolator"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// encodeProto reads JSON and writes the message.
func encodeProto(typeName string, in io.Reader, out io.Writer) error {
	typ, ok := protolator.Lookup(typeName)
	if !ok {
		return fmt.Errorf("message of type %s unknown", typeName)
	}
	m, err := typ.ReadJSON(in)
	switch {
	case errors.Is(err, protolator.ErrOneofNil):
		return fmt.Errorf("error marshaling: %w", err)
	case err != nil:
		return fmt.Errorf("error decoding input: %w", err)
	}
	raw, err := m.Marshal()
	if err != nil {
		return fmt.Errorf("error marshaling: %w", err)
	}
	if _, err := out.Write(raw); err != nil {
		return fmt.Errorf("error writing output: %w", err)
	}
	return nil
}

// decodeProto reads a message and writes its JSON.
func decodeProto(typeName string, in io.Reader, out io.Writer) error {
	typ, ok := protolator.Lookup(typeName)
	if !ok {
		return fmt.Errorf("message of type %s unknown", typeName)
	}
	raw, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("error reading input: %w", err)
	}
	m, err := typ.Unmarshal(raw)
	if err != nil {
		return fmt.Errorf("error unmarshaling: %w", err)
	}
	if err := m.WriteJSON(out); err != nil {
		return fmt.Errorf("error encoding output: %w", err)
	}
	return nil
}

// computeUpdate reads two configurations and writes the update between them.
func computeUpdate(original, updated *os.File, channelID string, out io.Writer) error {
	from, err := readConfig(original, "original")
	if err != nil {
		return err
	}
	to, err := readConfig(updated, "updated")
	if err != nil {
		return err
	}
	update, err := chanconfig.ComputeUpdate(from, to)
	if err != nil {
		return fmt.Errorf("error computing config update: %w", err)
	}
	update.ChannelId = channelID
	if _, err := out.Write(protoutil.Marshal(update)); err != nil {
		return fmt.Errorf("error writing config update to output: %w", err)
	}
	return nil
}

func readConfig(f *os.File, name string) (*common.Config, error) {
	// A file that was not given is a nil *os.File, which reads as an error.
	raw, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("error reading %s config: %w", name, err)
	}
	config := &common.Config{}
	if err := proto.Unmarshal(raw, config); err != nil {
		return nil, fmt.Errorf("error unmarshaling %s config: %w", name, err)
	}
	return config, nil
}
