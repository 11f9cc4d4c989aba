package events

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// encodeFiltered is the filtered form of a block as fields of a
// DeliverResponse.
func encodeFiltered(b *protoutil.Block) ([]byte, error) {
	f, err := Filter(b)
	if err != nil {
		return nil, err
	}
	raw, err := proto.Marshal(&peer.DeliverResponse{Type: &peer.DeliverResponse_FilteredBlock{FilteredBlock: f}})
	if err != nil {
		return nil, fmt.Errorf("encode filtered block: %w", err)
	}
	return raw, nil
}

// Filter is the filtered form of a block (GOSSIP-DISCOVERY §19.6). Envelopes
// that do not decode, or have no header, are left out; what else does not decode
// is an error.
func Filter(b *protoutil.Block) (*peer.FilteredBlock, error) {
	out := &peer.FilteredBlock{Number: b.Number()}
	flags := b.Flags()
	for i := range b.Len() {
		tx := b.Tx(i)
		if _, err := tx.Envelope(); err != nil {
			continue
		}
		payload, err := tx.Payload()
		if err != nil {
			return nil, fmt.Errorf("could not extract payload from envelope: %w", err)
		}
		if payload.Header == nil {
			continue
		}
		ch, err := tx.ChannelHeader()
		if err != nil {
			return nil, err
		}
		out.ChannelId = ch.ChannelId
		code := peer.TxValidationCode_NOT_VALIDATED
		if i < len(flags) {
			code = peer.TxValidationCode(flags[i])
		}
		ft := &peer.FilteredTransaction{Txid: ch.TxId, Type: common.HeaderType(ch.Type), TxValidationCode: code}
		if ft.Type == common.HeaderType_ENDORSER_TRANSACTION {
			actions, err := filterActions(tx)
			if err != nil {
				return nil, err
			}
			ft.Data = &peer.FilteredTransaction_TransactionActions{TransactionActions: actions}
		}
		out.FilteredTransactions = append(out.FilteredTransactions, ft)
	}
	return out, nil
}

func filterActions(tx *protoutil.Tx) (*peer.FilteredTransactionActions, error) {
	transaction, err := tx.Transaction()
	if err != nil {
		return nil, fmt.Errorf("error unmarshal transaction payload for block event: %w", err)
	}
	out := &peer.FilteredTransactionActions{}
	for i, a := range transaction.Actions {
		event, err := eventOf(tx, i, a)
		if err != nil {
			return nil, err
		}
		if event.GetChaincodeId() == "" {
			continue
		}
		out.ChaincodeActions = append(out.ChaincodeActions, &peer.FilteredChaincodeAction{
			// The payload is for those who may read whole blocks.
			ChaincodeEvent: &peer.ChaincodeEvent{ChaincodeId: event.ChaincodeId, TxId: event.TxId, EventName: event.EventName},
		})
	}
	return out, nil
}

// eventOf decodes the event of action i, nil if there is none.
func eventOf(tx *protoutil.Tx, i int, a *peer.TransactionAction) (*peer.ChaincodeEvent, error) {
	action, err := actionOf(tx, i, a)
	if err != nil || action == nil {
		return nil, err
	}
	event := &peer.ChaincodeEvent{}
	if err := proto.Unmarshal(action.Events, event); err != nil {
		return nil, fmt.Errorf("error unmarshaling ChaincodeEvent: %w", err)
	}
	return event, nil
}

// actionOf gives action i, nil if the transaction action has no endorsed
// action. The first one comes from the view, which validation has filled
// already; valid transactions have no other.
func actionOf(tx *protoutil.Tx, i int, a *peer.TransactionAction) (*peer.ChaincodeAction, error) {
	if i == 0 {
		payload, err := tx.ActionPayload()
		if err != nil {
			return nil, fmt.Errorf("error unmarshal transaction action payload for block event: %w", err)
		}
		if payload.Action == nil {
			return nil, nil
		}
		return tx.Action()
	}
	payload := &peer.ChaincodeActionPayload{}
	if err := proto.Unmarshal(a.GetPayload(), payload); err != nil {
		return nil, fmt.Errorf("error unmarshal transaction action payload for block event: %w", err)
	}
	if payload.Action == nil {
		return nil, nil
	}
	prp := &peer.ProposalResponsePayload{}
	if err := proto.Unmarshal(payload.Action.ProposalResponsePayload, prp); err != nil {
		return nil, fmt.Errorf("error unmarshal proposal response payload for block event: %w", err)
	}
	action := &peer.ChaincodeAction{}
	if err := proto.Unmarshal(prp.Extension, action); err != nil {
		return nil, fmt.Errorf("error unmarshal chaincode action for block event: %w", err)
	}
	return action, nil
}
