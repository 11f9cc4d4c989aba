package couchdb

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// encodeVersion makes the member ~version: NUL and the base64 of a
// VersionFieldProto (LEDGER §5.3).
func encodeVersion(v state.Version, metadata []byte) string {
	raw := protoutil.Marshal(&ledgerstore.VersionField{
		VersionBytes: kv.AppendHeight(nil, kv.Height(v)),
		Metadata:     metadata,
	})
	return "\x00" + base64.StdEncoding.EncodeToString(raw)
}

var errVersion = errors.New("no version of a key")

// decodeVersion reads the member ~version, also in the form of before 1.3,
// "block:transaction" in decimal.
func decodeVersion(s string) (state.Version, []byte, error) {
	if !strings.HasPrefix(s, "\x00") {
		v, err := decodeOldVersion(s)
		return v, nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(s[1:])
	if err != nil {
		return state.Version{}, nil, fmt.Errorf("%w: %w", errVersion, err)
	}
	field := &ledgerstore.VersionField{}
	if err := proto.Unmarshal(raw, field); err != nil {
		return state.Version{}, nil, fmt.Errorf("%w: %w", errVersion, err)
	}
	h, _, err := kv.ReadHeight(field.VersionBytes)
	if err != nil {
		return state.Version{}, nil, fmt.Errorf("%w: %w", errVersion, err)
	}
	return state.Version(h), field.Metadata, nil
}

func decodeOldVersion(s string) (state.Version, error) {
	block, tx, ok := strings.Cut(s, ":")
	if !ok {
		return state.Version{}, errVersion
	}
	b, err := strconv.ParseUint(block, 10, 64)
	if err != nil {
		return state.Version{}, fmt.Errorf("%w: %w", errVersion, err)
	}
	t, err := strconv.ParseUint(tx, 10, 64)
	if err != nil {
		return state.Version{}, fmt.Errorf("%w: %w", errVersion, err)
	}
	return state.Version{Block: b, Tx: t}, nil
}
