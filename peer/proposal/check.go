package proposal

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/msp"
)

// Header types that common.HeaderType of today lacks (SURFACE §2.3).
const (
	typePeerAdminOperation = 8
	typeTokenTransaction   = 9
)

// Identities gives the deserializer of a channel's identities, the local MSP
// for the channel "". ok is false for a channel that this peer has not joined.
type Identities func(channelID string) (d msp.Deserializer, ok bool)

// AccessDenied says that a proposal's creator is not to be believed. Clients
// see only channel and organisation; Reason is for the log.
type AccessDenied struct {
	ChannelID string
	MSPID     string
	Reason    error
}

// Error is the text that clients see (ENDORSE-VALIDATE §2.2 item 6).
func (e *AccessDenied) Error() string {
	return fmt.Sprintf("access denied: channel [%s] creator org [%s]", e.ChannelID, e.MSPID)
}

// Unwrap gives the reason.
func (e *AccessDenied) Unwrap() error { return e.Reason }

// Check makes the checks 1 to 9 of ENDORSE-VALIDATE §2.2 in their order.
func (v *View) Check(ids Identities) error {
	if err := v.checkHeaders(); err != nil {
		return err
	}
	if err := v.checkCreator(ids); err != nil {
		return err
	}
	return v.checkContents()
}

// checkHeaders makes the checks 1 to 5, which need nothing but the bytes.
func (v *View) checkHeaders() error {
	ch, err := v.ChannelHeader()
	if err != nil {
		return err
	}
	sh, err := v.SignatureHeader()
	if err != nil {
		return err
	}
	switch common.HeaderType(ch.Type) {
	case common.HeaderType_CONFIG, common.HeaderType_CONFIG_UPDATE, common.HeaderType_ENDORSER_TRANSACTION, typeTokenTransaction:
	default:
		return fmt.Errorf("invalid header type %s", headerTypeName(ch.Type))
	}
	switch {
	case ch.Epoch != 0:
		return fmt.Errorf("invalid Epoch in ChannelHeader. Expected 0, got [%d]", ch.Epoch)
	case len(sh.Nonce) == 0:
		return errors.New("invalid nonce specified in the header")
	case len(sh.Creator) == 0:
		return errors.New("invalid creator specified in the header")
	}
	return nil
}

func headerTypeName(t int32) string {
	if t == typePeerAdminOperation {
		return "PEER_ADMIN_OPERATION"
	}
	return common.HeaderType(t).String()
}

// checkCreator makes check 6.
func (v *View) checkCreator(ids Identities) error {
	reason := verifyCreator(v, ids)
	if reason == nil {
		return nil
	}
	denied := &AccessDenied{ChannelID: v.ChannelID(), Reason: reason}
	id := &mspproto.SerializedIdentity{}
	if err := proto.Unmarshal(v.Creator(), id); err == nil {
		denied.MSPID = id.Mspid
	}
	return denied
}

func verifyCreator(v *View, ids Identities) error {
	d, ok := ids(v.ChannelID())
	if !ok {
		return fmt.Errorf("could not get msp for channel [%s]", v.ChannelID())
	}
	id, err := d.DeserializeIdentity(v.Creator())
	if err != nil {
		return fmt.Errorf("MSP error: %w", err)
	}
	if err := id.Validate(); err != nil {
		return fmt.Errorf("creator certificate is not valid: %w", err)
	}
	if err := id.Verify(v.signed.ProposalBytes, v.signed.Signature); err != nil {
		return fmt.Errorf("creator's signature over the proposal is not valid: %w", err)
	}
	return nil
}

// checkContents makes the checks 7 to 9.
func (v *View) checkContents() error {
	ch, err := v.ChannelHeader()
	if err != nil {
		return err
	}
	sh, err := v.SignatureHeader()
	if err != nil {
		return err
	}
	if want := protoutil.TxID(sh.Nonce, sh.Creator); ch.TxId != want {
		return fmt.Errorf("invalid txid. got [%s], expected [%s]", ch.TxId, want)
	}
	switch common.HeaderType(ch.Type) {
	case common.HeaderType_CONFIG, common.HeaderType_ENDORSER_TRANSACTION:
	default:
		return fmt.Errorf("unsupported proposal type %d", ch.Type)
	}
	ext, err := v.Extension()
	switch {
	case err != nil:
		return errors.New("invalid header extension for type CHAINCODE")
	case ext.ChaincodeId == nil:
		return errors.New("ChaincodeHeaderExtension.ChaincodeId is nil")
	case payloadVisibility(ext):
		return errors.New("invalid payload visibility field")
	}
	return nil
}
