package chaincodecmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
)

// errorThreshold is the first status that counts as a failure.
const errorThreshold = 400

func (g *group) invokeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "invoke", Short: "Invoke the specified chaincode.",
		Long: "Invoke the specified chaincode. It will try to commit the endorsed transaction to the network.",
		RunE: func(cmd *cobra.Command, _ []string) error { return g.run(cmd, "invoke") },
	}
	g.flags(cmd.Flags(), "name", "ctor", "channel", "peers")
	cmd.Flags().BoolVar(&g.waitEvent, "waitForEvent", false, "Whether to wait for the event from each peer's deliver filtered service signifying that the 'invoke' transaction has been committed successfully")
	cmd.Flags().DurationVar(&g.waitLimit, "waitForEventTimeout", 30*time.Second, "Time to wait for the event from each peer's deliver filtered service signifying that the 'invoke' transaction has been committed successfully")
	return cmd
}

func (g *group) queryCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "query", Short: "Query using the specified chaincode.",
		Long: "Get endorsed result of chaincode function call and print it. It won't generate transaction.",
		RunE: func(cmd *cobra.Command, _ []string) error { return g.run(cmd, "query") },
	}
	g.flags(cmd.Flags(), "name", "ctor", "channel", "peers")
	cmd.Flags().BoolVarP(&g.raw, "raw", "r", false, "If true, output the query value as raw bytes, otherwise format as a printable string")
	cmd.Flags().BoolVarP(&g.hex, "hex", "x", false, "If true, output the query value byte array in hexadecimal. Incompatible with --raw")
	return cmd
}

func (g *group) run(cmd *cobra.Command, verb string) error {
	if g.channel == "" {
		return errNoChannel
	}
	cli.Checked(cmd)
	f, err := g.InitCmdFactory(cmd.Context(), verb, verb == "invoke")
	if err != nil {
		return err
	}
	defer f.close()
	if err := g.checked(cmd, verb); err != nil {
		return err
	}
	spec, err := g.spec()
	if err != nil {
		return err
	}
	return g.chaincodeInvokeOrQuery(cmd.Context(), f, spec, verb == "invoke")
}

// chaincodeInvokeOrQuery proposes the call and prints the result. Its name is
// part of the log line.
func (g *group) chaincodeInvokeOrQuery(ctx context.Context, f *factory, spec *peer.ChaincodeSpec, invoke bool) error {
	resp, err := g.call(ctx, f, spec, invoke)
	if err != nil {
		return fmt.Errorf("%w - proposal response: %s", err, responseText(resp))
	}
	if resp.GetResponse() == nil {
		return errors.New("error during query: received nil proposal response")
	}
	verb := "query"
	if invoke {
		verb = "invoke"
	}
	if invoke && resp.Response.Status >= errorThreshold || resp.Endorsement == nil {
		return fmt.Errorf("endorsement failure during %s. response: %s", verb, protoutil.Text(resp.Response))
	}
	if invoke {
		g.env.Logger("chaincodeCmd").Infof("Chaincode invoke successful. result: %s", protoutil.Text(resp.Response))
		return nil
	}
	return g.printResult(resp.Response.Payload)
}

func (g *group) printResult(payload []byte) error {
	switch {
	case g.raw && g.hex:
		return errors.New("options --raw (-r) and --hex (-x) are not compatible")
	case g.raw:
		fmt.Fprintln(g.env.Stdout, payload)
	case g.hex:
		fmt.Fprintf(g.env.Stdout, "%x\n", payload)
	default:
		fmt.Fprintln(g.env.Stdout, string(payload))
	}
	return nil
}

// call proposes and, for an invocation that the first peer endorsed, submits.
func (g *group) call(ctx context.Context, f *factory, spec *peer.ChaincodeSpec, invoke bool) (*peer.ProposalResponse, error) {
	verb := "query"
	if invoke {
		verb = "invoke"
	}
	transient, err := g.transientMap()
	if err != nil {
		return nil, err
	}
	// Language is not an option of these verbs.
	spec.Type = peer.ChaincodeSpec_GOLANG
	prop, responses, err := g.propose(ctx, f, txbuild.ProposalSpec{
		Type: common.HeaderType_ENDORSER_TRANSACTION, ChannelID: g.channel, Spec: spec, Transient: transient,
	})
	if err != nil {
		return nil, fmt.Errorf("error endorsing %s: %w", verb, err)
	}
	first := responses[0]
	if !invoke || first.GetResponse().GetStatus() >= errorThreshold {
		return first, nil
	}
	env, err := txbuild.Transaction(prop.Proposal, g.env.Signer(), responses...)
	if err != nil {
		return first, fmt.Errorf("could not assemble transaction: %w", err)
	}
	return g.submit(ctx, f, submission{env: env, txID: prop.TxID, first: first})
}

// submission is an endorsed transaction on its way.
type submission struct {
	env   *common.Envelope
	txID  string
	first *peer.ProposalResponse
}

func (g *group) submit(ctx context.Context, f *factory, s submission) (*peer.ProposalResponse, error) {
	var events *waiter
	if g.waitEvent {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, g.waitLimit)
		defer cancel()
		var err error
		if events, err = g.connectEvents(ctx, f, s.txID); err != nil {
			return nil, err
		}
		defer events.stop()
	}
	if err := cli.Broadcast(context.WithoutCancel(ctx), f.orderer, s.env); err != nil {
		return s.first, fmt.Errorf("error sending transaction for invoke: %w", err)
	}
	if events != nil {
		if err := events.wait(ctx); err != nil {
			return nil, err
		}
	}
	return s.first, nil
}

func (g *group) transientMap() (map[string][]byte, error) {
	if g.transient == "" {
		return nil, nil
	}
	var m map[string][]byte
	if err := json.Unmarshal([]byte(g.transient), &m); err != nil {
		return nil, fmt.Errorf("error parsing transient string: %w", err)
	}
	return m, nil
}
