package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
)

var (
	errNoLedger     = errors.New("no ledger context")
	errNoInvocation = errors.New("could not get valid transaction")
	errNoContext    = errors.New("failed to get transaction context")
)

// answer carries out one request and returns the reply (CHAINCODE §2.3).
func (s *Stream) answer(ctx context.Context, tx *transaction, msg *peer.ChaincodeMessage) *peer.ChaincodeMessage {
	m := s.requests.of(s.cfg.Metrics, msg.Type, msg.ChannelId, s.cname)
	m.received.Add(1)
	start := time.Now()
	payload, err := s.perform(ctx, tx, msg)
	m.completed(err == nil, time.Since(start))
	return s.reply(msg, payload, err)
}

func (s *Stream) reply(msg *peer.ChaincodeMessage, payload []byte, err error) *peer.ChaincodeMessage {
	typ := peer.ChaincodeMessage_RESPONSE
	if err != nil {
		typ = peer.ChaincodeMessage_ERROR
		payload = fmt.Appendf(nil, "%s failed: transaction ID: %s: %s", msg.Type, msg.Txid, err)
	}
	return &peer.ChaincodeMessage{Type: typ, Payload: payload, Txid: msg.Txid, ChannelId: msg.ChannelId}
}

// refusal is the reason given to a request without a live transaction.
func (s *Stream) refusal(msg *peer.ChaincodeMessage) error {
	if msg.Type != peer.ChaincodeMessage_INVOKE_CHAINCODE {
		return errNoLedger
	}
	if msg.ChannelId != "" {
		return errNoInvocation
	}
	spec := &peer.ChaincodeSpec{}
	if err := decode(msg.Payload, spec); err != nil {
		return err
	}
	if s.cfg.Host.IsSystem(ParseTarget(spec.GetChaincodeId().GetName()).Name) {
		return errNoContext
	}
	return errNoInvocation
}

func (s *Stream) perform(ctx context.Context, tx *transaction, msg *peer.ChaincodeMessage) ([]byte, error) {
	if msg.Type == peer.ChaincodeMessage_INVOKE_CHAINCODE {
		return s.invoke(ctx, tx, msg)
	}
	if tx.call.Simulator == nil {
		return nil, errNoLedger
	}
	switch msg.Type {
	case peer.ChaincodeMessage_GET_STATE:
		return s.getState(tx, msg.Payload)
	case peer.ChaincodeMessage_PUT_STATE:
		return nil, s.putState(tx, msg.Payload)
	case peer.ChaincodeMessage_DEL_STATE:
		return nil, s.delState(tx, msg.Payload)
	case peer.ChaincodeMessage_GET_STATE_BY_RANGE:
		return s.getStateByRange(tx, msg.Payload)
	case peer.ChaincodeMessage_GET_QUERY_RESULT:
		return s.getQueryResult(tx, msg.Payload)
	case peer.ChaincodeMessage_GET_HISTORY_FOR_KEY:
		return s.getHistoryForKey(tx, msg.Payload)
	case peer.ChaincodeMessage_QUERY_STATE_NEXT:
		return s.queryStateNext(tx, msg.Payload)
	case peer.ChaincodeMessage_QUERY_STATE_CLOSE:
		return s.queryStateClose(tx, msg.Payload)
	case peer.ChaincodeMessage_GET_STATE_METADATA:
		return s.getStateMetadata(tx, msg)
	case peer.ChaincodeMessage_PUT_STATE_METADATA:
		return nil, s.putStateMetadata(tx, msg)
	case peer.ChaincodeMessage_GET_PRIVATE_DATA_HASH:
		return s.getPrivateDataHash(tx, msg.Payload)
	default:
		panic(fmt.Sprintf("%s is not a request", msg.Type)) // isRequest admits no other
	}
}

func (s *Stream) getState(tx *transaction, payload []byte) ([]byte, error) {
	req := &peer.GetState{}
	if err := decode(payload, req); err != nil {
		return nil, err
	}
	if req.Collection != "" {
		return nil, s.refusePrivateRead(tx, req.Collection)
	}
	return tx.call.Simulator.GetState(s.instance.Name, req.Key)
}

func (s *Stream) putState(tx *transaction, payload []byte) error {
	req := &peer.PutState{}
	if err := decode(payload, req); err != nil {
		return err
	}
	if req.Collection != "" {
		return s.refusePrivateUse(tx, req.Collection)
	}
	if err := tx.write(req.Key, req.Value); err != nil {
		return err
	}
	return tx.call.Simulator.SetState(s.instance.Name, req.Key, req.Value)
}

func (s *Stream) delState(tx *transaction, payload []byte) error {
	req := &peer.DelState{}
	if err := decode(payload, req); err != nil {
		return err
	}
	if req.Collection != "" {
		return s.refusePrivateUse(tx, req.Collection)
	}
	if err := tx.write(req.Key, nil); err != nil {
		return err
	}
	return tx.call.Simulator.DeleteState(s.instance.Name, req.Key)
}

func (s *Stream) getStateMetadata(tx *transaction, msg *peer.ChaincodeMessage) ([]byte, error) {
	if err := s.cfg.Host.KeyLevelEndorsement(msg.ChannelId); err != nil {
		return nil, err
	}
	req := &peer.GetStateMetadata{}
	if err := decode(msg.Payload, req); err != nil {
		return nil, err
	}
	if req.Collection != "" {
		return nil, s.refusePrivateRead(tx, req.Collection)
	}
	metadata, err := tx.call.Simulator.GetStateMetadata(s.instance.Name, req.Key)
	if err != nil {
		return nil, err
	}
	result := &peer.StateMetadataResult{}
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		result.Entries = append(result.Entries, &peer.StateMetadata{Metakey: key, Value: metadata[key]})
	}
	return proto.Marshal(result)
}

func (s *Stream) putStateMetadata(tx *transaction, msg *peer.ChaincodeMessage) error {
	if err := s.cfg.Host.KeyLevelEndorsement(msg.ChannelId); err != nil {
		return err
	}
	req := &peer.PutStateMetadata{}
	if err := decode(msg.Payload, req); err != nil {
		return err
	}
	if req.Collection != "" {
		return s.refusePrivateUse(tx, req.Collection)
	}
	// The single entry replaces the whole map (CHAINCODE §3.5).
	entry := map[string][]byte{req.GetMetadata().GetMetakey(): req.GetMetadata().GetValue()}
	if err := tx.write(metadataOf(req.Key), req.GetMetadata().GetValue()); err != nil {
		return err
	}
	return tx.call.Simulator.SetStateMetadata(s.instance.Name, req.Key, entry)
}

// metadataOf tells the metadata of a key from its value where writes are
// counted.
func metadataOf(key string) string { return key + "\x00metadata" }

// invoke carries out a chaincode-to-chaincode call. Whatever the callee
// answers is passed on as it came (CHAINCODE §3.7.7).
func (s *Stream) invoke(ctx context.Context, tx *transaction, msg *peer.ChaincodeMessage) ([]byte, error) {
	if msg.ChannelId != "" && tx.call.Simulator == nil {
		return nil, errNoInvocation
	}
	spec := &peer.ChaincodeSpec{}
	if err := decode(msg.Payload, spec); err != nil {
		return nil, err
	}
	to := ParseTarget(spec.GetChaincodeId().GetName())
	if tx.call.Simulator == nil && !s.cfg.Host.IsSystem(to.Name) {
		return nil, errNoInvocation
	}
	input := spec.GetInput()
	if input == nil {
		input = &peer.ChaincodeInput{}
	}
	result, err := s.cfg.Host.Invoke(ctx, tx.call, s.cname, to, input)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(result)
}

func decode(payload []byte, m proto.Message) error {
	if err := proto.Unmarshal(payload, m); err != nil {
		return fmt.Errorf("unmarshal failed: %w", err)
	}
	return nil
}
