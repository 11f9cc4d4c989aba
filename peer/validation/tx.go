package validation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/peer/validation/vscc"
)

// headerTypeToken is TOKEN_TRANSACTION, known to 1.4 but never valid.
const headerTypeToken = 9

// blockJudge is what the workers share while one block is judged.
type blockJudge struct {
	*Validator
	view  View
	scan  *Scan
	block *vscc.Block
}

// judge takes transaction i through the checks of ENDORSE-VALIDATE §5.1, in
// order.
func (j *blockJudge) judge(i int) judgement {
	tx := j.scan.block.Tx(i)
	if _, err := tx.Envelope(); err != nil {
		return invalid(peer.TxValidationCode_INVALID_OTHER_REASON, err)
	}
	if _, err := tx.Payload(); err != nil {
		return invalid(peer.TxValidationCode_BAD_PAYLOAD, err)
	}
	ch, sh, err := commonHeader(tx)
	if err != nil {
		return invalid(peer.TxValidationCode_BAD_COMMON_HEADER, err)
	}
	if err := j.creatorSignature(tx, ch.ChannelId, sh.Creator); err != nil {
		return invalid(peer.TxValidationCode_BAD_CREATOR_SIGNATURE, err)
	}
	switch ch.Type {
	case int32(common.HeaderType_CONFIG):
		return j.judgeConfig(i, tx)
	case int32(common.HeaderType_ENDORSER_TRANSACTION):
		return j.judgeEndorsed(i, tx, ch, sh)
	case headerTypeToken:
		if !txIDMatches(ch.TxId, sh) {
			return invalid(peer.TxValidationCode_BAD_PROPOSAL_TXID, errTxID(ch))
		}
		return invalid(peer.TxValidationCode_UNKNOWN_TX_TYPE, fmt.Errorf("unsupported transaction type %d", ch.Type))
	default: // CONFIG_UPDATE: commonHeader lets nothing else through
		return invalid(peer.TxValidationCode_UNSUPPORTED_TX_PAYLOAD, fmt.Errorf("unsupported transaction payload type %d", ch.Type))
	}
}

func errTxID(ch *common.ChannelHeader) error {
	return fmt.Errorf("invalid txid %q", ch.TxId)
}

func commonHeader(tx *protoutil.Tx) (*common.ChannelHeader, *common.SignatureHeader, error) {
	ch, err := tx.ChannelHeader()
	if err != nil {
		return nil, nil, err
	}
	sh, err := tx.SignatureHeader()
	if err != nil {
		return nil, nil, err
	}
	switch ch.Type {
	case int32(common.HeaderType_CONFIG), int32(common.HeaderType_CONFIG_UPDATE),
		int32(common.HeaderType_ENDORSER_TRANSACTION), headerTypeToken:
	default:
		return nil, nil, fmt.Errorf("invalid header type %s", common.HeaderType(ch.Type))
	}
	switch {
	case ch.Epoch != 0:
		return nil, nil, fmt.Errorf("invalid Epoch in ChannelHeader. Expected 0, got [%d]", ch.Epoch)
	case len(sh.Nonce) == 0:
		return nil, nil, errors.New("invalid nonce specified in the header")
	case len(sh.Creator) == 0:
		return nil, nil, errors.New("invalid creator specified in the header")
	}
	return ch, sh, nil
}

func (j *blockJudge) creatorSignature(tx *protoutil.Tx, channelID string, creator []byte) error {
	msps, ok := j.view.Config.MSPs, true
	if channelID != j.cfg.ChannelID {
		msps, ok = j.view.Config.Identities(channelID)
	}
	if !ok {
		return fmt.Errorf("channel %q doesn't exist", channelID)
	}
	id, err := msps.DeserializeIdentity(creator)
	if err != nil {
		return fmt.Errorf("identity error: %w", err)
	}
	if err := id.Validate(); err != nil {
		return fmt.Errorf("creator certificate is not valid: %w", err)
	}
	env, err := tx.Envelope()
	if err != nil {
		return err
	}
	if err := id.Verify(env.Payload, env.Signature); err != nil {
		return fmt.Errorf("creator's signature over the proposal is not valid: %w", err)
	}
	return nil
}

func txIDMatches(id string, sh *common.SignatureHeader) bool {
	h := sha256.New()
	h.Write(sh.Nonce)
	h.Write(sh.Creator)
	var sum [sha256.Size]byte
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], h.Sum(sum[:0]))
	return id == string(text[:])
}

func (j *blockJudge) judgeConfig(i int, tx *protoutil.Tx) judgement {
	payload, err := tx.Payload()
	if err != nil {
		return invalid(peer.TxValidationCode_BAD_PAYLOAD, err)
	}
	if len(payload.Data) == 0 {
		return invalid(peer.TxValidationCode_INVALID_CONFIG_TRANSACTION, errors.New("config transaction without data"))
	}
	env := &common.ConfigEnvelope{}
	if err := proto.Unmarshal(payload.Data, env); err != nil {
		return fatal(i, false, fmt.Errorf("error unmarshalling config which passed initial validity checks: %w", err))
	}
	if err := j.view.Config.CheckConfig(env); err != nil {
		return fatal(i, false, fmt.Errorf("error validating config which passed initial validity checks: %w", err))
	}
	return judgement{code: peer.TxValidationCode_VALID}
}

func (j *blockJudge) judgeEndorsed(i int, tx *protoutil.Tx, ch *common.ChannelHeader, sh *common.SignatureHeader) judgement {
	if !txIDMatches(ch.TxId, sh) {
		return invalid(peer.TxValidationCode_BAD_PROPOSAL_TXID, errTxID(ch))
	}
	if err := endorserTransaction(tx); err != nil {
		return invalid(peer.TxValidationCode_INVALID_ENDORSER_TRANSACTION, err)
	}
	dup, err := j.inLedger(ch.TxId)
	if err != nil {
		return fatal(i, false, err)
	}
	if dup {
		return invalid(peer.TxValidationCode_DUPLICATE_TXID, fmt.Errorf("duplicate transaction found, %s, skipping", ch.TxId))
	}
	return j.dispatch(i, tx)
}

// inLedger tells whether an earlier block has the transaction id. Pending blocks
// are asked first: one that is committed meanwhile is then found in the ledger.
func (j *blockJudge) inLedger(id string) (bool, error) {
	for _, p := range j.view.Pending {
		if _, ok := p.ids[id]; ok {
			return true, nil
		}
	}
	found, err := j.view.Index.HasTx(id)
	if err != nil {
		return false, fmt.Errorf("error while looking up transaction %s in the ledger: %w", id, err)
	}
	return found, nil
}

// endorserTransaction is the form check of ENDORSE-VALIDATE §5.1 item 7.
func endorserTransaction(tx *protoutil.Tx) error {
	t, err := tx.Transaction()
	if err != nil {
		return err
	}
	if len(t.Actions) != 1 {
		return fmt.Errorf("only one action per transaction is supported, tx contains %d", len(t.Actions))
	}
	payload, err := tx.Payload()
	if err != nil {
		return err
	}
	header := t.Actions[0].GetHeader()
	if err := actionHeader(header, payload.Header.GetSignatureHeader()); err != nil {
		return err
	}
	action, err := tx.ActionPayload()
	if err != nil {
		return err
	}
	response, err := tx.ResponsePayload()
	if err != nil {
		return err
	}
	channelHeader, input := payload.Header.GetChannelHeader(), action.ChaincodeProposalPayload
	if len(channelHeader) == 0 || len(header) == 0 || len(input) == 0 {
		return errors.New("nil arguments")
	}
	var sum [sha256.Size]byte
	h := sha256.New()
	h.Write(channelHeader)
	h.Write(header)
	h.Write(input)
	if !bytes.Equal(h.Sum(sum[:0]), response.ProposalHash) {
		return errors.New("proposal hash does not match")
	}
	return nil
}

// actionHeader checks the signature header of the action. Almost always it has
// the bytes of the envelope's own, which has been checked.
func actionHeader(header, checked []byte) error {
	if bytes.Equal(header, checked) {
		return nil
	}
	sh := &common.SignatureHeader{}
	if err := proto.Unmarshal(header, sh); err != nil {
		return fmt.Errorf("error unmarshaling SignatureHeader: %w", err)
	}
	if len(sh.Nonce) == 0 || len(sh.Creator) == 0 {
		return errors.New("invalid nonce or creator specified in the action's header")
	}
	return nil
}
