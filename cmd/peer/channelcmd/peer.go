package channelcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
)

func (g *group) joinCmd() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "join", Short: "Joins the peer to a channel.", Long: "Joins the peer to a channel.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return errors.New("Must supply genesis block path")
			}
			cli.Checked(cmd)
			f, err := g.InitCmdFactory(cmd.Context(), connections{endorser: true})
			if err != nil {
				return err
			}
			defer f.close()
			return g.executeJoin(cmd.Context(), f, path)
		},
	}
	cmd.Flags().StringVarP(&path, "blockpath", "b", "", "Path to file containing genesis block")
	return cmd
}

// executeJoin sends the block to the peer. Its name is part of the log line.
func (g *group) executeJoin(ctx context.Context, f *factory, path string) error {
	block, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("genesis block file not found %w", err)
	}
	resp, err := g.call(ctx, f, common.HeaderType_CONFIG, "cscc", []byte("JoinChain"), block)
	if err != nil {
		return fmt.Errorf("proposal failed (err: %w)", err)
	}
	if s := resp.GetResponse().GetStatus(); s != 0 && s != int32(common.Status_SUCCESS) {
		return fmt.Errorf("proposal failed (err: bad proposal response %d: %s)", s, resp.Response.Message)
	}
	g.env.Logger("channelCmd").Info("Successfully submitted proposal to join channel")
	return nil
}

func (g *group) listCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List of channels peer has joined.", Long: "List of channels peer has joined.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return fmt.Errorf("trailing args detected: %s", args)
			}
			cli.Checked(cmd)
			f, err := g.InitCmdFactory(cmd.Context(), connections{endorser: true})
			if err != nil {
				return err
			}
			defer f.close()
			return g.runList(cmd.Context(), f)
		},
	}
}

func (g *group) runList(ctx context.Context, f *factory) error {
	resp, err := g.call(ctx, f, common.HeaderType_ENDORSER_TRANSACTION, "cscc", []byte("GetChannels"))
	if err != nil {
		return fmt.Errorf("Failed sending proposal, got %w", err)
	}
	if s := resp.GetResponse().GetStatus(); s != int32(common.Status_SUCCESS) {
		return fmt.Errorf("Received bad response, status %d: %s", s, resp.GetResponse().GetMessage())
	}
	channels := &peer.ChannelQueryResponse{}
	if err := proto.Unmarshal(resp.Response.Payload, channels); err != nil {
		return fmt.Errorf("Cannot read channels list response, %w", err)
	}
	fmt.Fprintln(g.env.Stdout, "Channels peers has joined: ")
	for _, c := range channels.Channels {
		fmt.Fprintln(g.env.Stdout, c.ChannelId)
	}
	return nil
}

func (g *group) getinfoCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "getinfo",
		Short: "get blockchain information of a specified channel.",
		Long:  "get blockchain information of a specified channel. Requires '-c'.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if g.channel == "" {
				return errors.New("Must supply channel ID")
			}
			cli.Checked(cmd)
			f, err := g.InitCmdFactory(cmd.Context(), connections{endorser: true})
			if err != nil {
				return err
			}
			defer f.close()
			return g.runGetInfo(cmd.Context(), f)
		},
	}
	g.channelFlag(cmd.Flags())
	return cmd
}

// chainInfo is the printed form of a BlockchainInfo.
type chainInfo struct {
	Height            uint64 `json:"height,omitempty"`
	CurrentBlockHash  []byte `json:"currentBlockHash,omitempty"`
	PreviousBlockHash []byte `json:"previousBlockHash,omitempty"`
}

func (g *group) runGetInfo(ctx context.Context, f *factory) error {
	resp, err := g.call(ctx, f, common.HeaderType_ENDORSER_TRANSACTION, "qscc", []byte("GetChainInfo"), []byte(g.channel))
	if err != nil {
		return fmt.Errorf("failed sending proposal: %w", err)
	}
	if s := resp.GetResponse().GetStatus(); s != int32(common.Status_SUCCESS) {
		return fmt.Errorf("received bad response, status %d: %s", s, resp.GetResponse().GetMessage())
	}
	info := &common.BlockchainInfo{}
	if err := proto.Unmarshal(resp.Response.Payload, info); err != nil {
		return fmt.Errorf("cannot read qscc response: %w", err)
	}
	text, err := json.Marshal(chainInfo{info.Height, info.CurrentBlockHash, info.PreviousBlockHash})
	if err != nil {
		return err
	}
	fmt.Fprintf(g.env.Stdout, "Blockchain info: %s\n", text)
	return nil
}
