package channelcmd

import (
	"errors"
	"fmt"
	"os"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
)

// invalid is the error of a file that is no config update.
func invalid(msg string) error {
	return fmt.Errorf("Invalid channel create transaction : %s", msg)
}

var errNoFile = invalid("No configtx file name supplied")

// readConfigTx reads the config update of -f.
func (g *group) readConfigTx() (*common.Envelope, error) {
	raw, err := os.ReadFile(g.file)
	if err != nil {
		return nil, fmt.Errorf("channel create configuration tx file not found %w", err)
	}
	env := &common.Envelope{}
	if err := proto.Unmarshal(raw, env); err != nil {
		return nil, fmt.Errorf("error unmarshaling Envelope: %w", err)
	}
	return env, nil
}

// signConfigTx checks a config update, adds the user's signature to it and
// wraps it anew, signed by the user.
func (g *group) signConfigTx(env *common.Envelope) (*common.Envelope, error) {
	payload := &common.Payload{}
	if proto.Unmarshal(env.Payload, payload) != nil {
		return nil, invalid("bad payload")
	}
	if payload.Header == nil || payload.Header.ChannelHeader == nil {
		return nil, invalid("bad header")
	}
	ch := &common.ChannelHeader{}
	if proto.Unmarshal(payload.Header.ChannelHeader, ch) != nil {
		return nil, invalid("could not unmarshall channel header")
	}
	if ch.Type != int32(common.HeaderType_CONFIG_UPDATE) {
		return nil, invalid("bad type")
	}
	if ch.ChannelId == "" {
		return nil, invalid("empty channel id")
	}
	if g.channel == "" {
		g.channel = ch.ChannelId
	}
	if ch.ChannelId != g.channel {
		return nil, invalid(fmt.Sprintf("mismatched channel ID %s != %s", ch.ChannelId, g.channel))
	}
	update := &common.ConfigUpdateEnvelope{}
	if proto.Unmarshal(payload.Data, update) != nil {
		return nil, invalid("Bad config update env")
	}
	return g.addSignature(update)
}

func (g *group) addSignature(update *common.ConfigUpdateEnvelope) (*common.Envelope, error) {
	signer := g.env.Signer()
	nonce, err := protoutil.Nonce()
	if err != nil {
		return nil, err
	}
	header := protoutil.Marshal(&common.SignatureHeader{Creator: signer.Serialize(), Nonce: nonce})
	sig, err := signer.Sign(append(append([]byte{}, header...), update.ConfigUpdate...))
	if err != nil {
		return nil, err
	}
	update.Signatures = append(update.Signatures, &common.ConfigSignature{SignatureHeader: header, Signature: sig})
	return txbuild.SignedEnvelope(txbuild.EnvelopeSpec{
		Type: int32(common.HeaderType_CONFIG_UPDATE), ChannelID: g.channel, Data: protoutil.Marshal(update),
	}, signer)
}

func (g *group) updateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Send a configtx update.",
		Long:  "Signs and sends the supplied configtx update file to the channel. Requires '-f', '-o', '-c'.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if g.channel == "" {
				return errors.New("Must supply channel ID")
			}
			if g.file == "" {
				return errNoFile
			}
			cli.Checked(cmd)
			f, err := g.InitCmdFactory(cmd.Context(), connections{orderer: true})
			if err != nil {
				return err
			}
			defer f.close()
			return g.update(cmd)
		},
	}
	g.channelFlag(cmd.Flags())
	g.fileFlag(cmd.Flags())
	return cmd
}

// update signs and sends. Its name is part of the log line.
func (g *group) update(cmd *cobra.Command) error {
	env, err := g.readConfigTx()
	if err != nil {
		return err
	}
	signed, err := g.signConfigTx(env)
	if err != nil {
		return err
	}
	if err := g.broadcast(cmd.Context(), "Error", signed); err != nil {
		return err
	}
	g.env.Logger("channelCmd").Info("Successfully submitted channel update")
	return nil
}

func (g *group) signconfigtxCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "signconfigtx",
		Short: "Signs a configtx update.",
		Long:  "Signs the supplied configtx update file in place on the filesystem. Requires '-f'.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if g.file == "" {
				return errNoFile
			}
			cli.Checked(cmd)
			if _, err := g.InitCmdFactory(cmd.Context(), connections{}); err != nil {
				return err
			}
			env, err := g.readConfigTx()
			if err != nil {
				return err
			}
			signed, err := g.signConfigTx(env)
			if err != nil {
				return err
			}
			return os.WriteFile(g.file, protoutil.Marshal(signed), 0o660)
		},
	}
	g.fileFlag(cmd.Flags())
	return cmd
}
