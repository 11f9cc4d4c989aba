// Package protoutil builds and parses the wire messages that every room
// shares: hashes of blocks and proposals, transaction ids, and the immutable
// Block view in which a block is decoded once for all its readers.
//
// It owns no state and starts no goroutine. Any package may import it.
package protoutil

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"
)

// NonceSize is the length in bytes of the nonces this node makes
// (IDENTITY-CONFIG §1.4).
const NonceSize = 24

// Marshal encodes m deterministically. It panics only when m cannot be encoded
// at all (invalid UTF-8 in a string that this program put there itself), so it
// is for messages that were built here or that have been decoded before.
func Marshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("marshal %T: %v", m, err))
	}
	return b
}

// Nonce returns NonceSize random bytes.
func Nonce() ([]byte, error) {
	n := make([]byte, NonceSize)
	if _, err := rand.Read(n); err != nil {
		return nil, fmt.Errorf("get random bytes: %w", err)
	}
	return n, nil
}

// TxID is the transaction id that belongs to a nonce and a creator: the
// lower-case hex form of SHA-256(nonce ‖ creator) (ENDORSE-VALIDATE §1.1).
func TxID(nonce, creator []byte) string {
	h := sha256.New()
	h.Write(nonce)
	h.Write(creator)
	var sum [sha256.Size]byte
	return hex.EncodeToString(h.Sum(sum[:0]))
}

// ProposalHash is the hash that endorsers sign over: SHA-256 of the channel
// header, the signature header and the chaincode proposal payload without its
// transient map (ENDORSE-VALIDATE §1.2).
func ProposalHash(channelHeader, signatureHeader, payloadWithoutTransient []byte) []byte {
	h := sha256.New()
	h.Write(channelHeader)
	h.Write(signatureHeader)
	h.Write(payloadWithoutTransient)
	return h.Sum(nil)
}

// ErrNoHeader is returned for a payload without a header.
var ErrNoHeader = errors.New("no header found in payload")

// ChannelHeaderOf decodes the channel header of an envelope.
func ChannelHeaderOf(env *common.Envelope) (*common.ChannelHeader, error) {
	payload := &common.Payload{}
	if err := proto.Unmarshal(env.GetPayload(), payload); err != nil {
		return nil, fmt.Errorf("error unmarshaling Payload: %w", err)
	}
	if payload.Header == nil {
		return nil, ErrNoHeader
	}
	ch := &common.ChannelHeader{}
	if err := proto.Unmarshal(payload.Header.ChannelHeader, ch); err != nil {
		return nil, fmt.Errorf("error unmarshaling ChannelHeader: %w", err)
	}
	return ch, nil
}
