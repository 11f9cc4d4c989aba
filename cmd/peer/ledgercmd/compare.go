package ledgercmd

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/ledger/audit"
)

func compareCmd(env *cli.Env) *cobra.Command {
	var p place
	var state, common bool
	var urls [2]string
	var rootCert string
	cmd := &cobra.Command{
		Use: "compare DIR1 DIR2", Short: "Names the first difference of two ledgers.",
		Long: `Compares the data of two nodes that are down, block by block, and names the first
difference. Signatures may differ, since each orderer signs for itself; so may
everything that only one of a peer and an orderer writes.

States are compared with --state. If one is in CouchDB, the server is to be named.
` + serverHelp + `
Exit code 0: the same; 1: different; 2: wrong use, or it cannot be looked at.`,
		RunE: action(env, func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if len(args) != 2 {
				return usageError{errors.New("two directories are needed")}
			}
			a, err := audit.Open(args[0])
			if err != nil {
				return err
			}
			defer a.Close()
			b, err := audit.Open(args[1])
			if err != nil {
				return err
			}
			defer b.Close()
			o := audit.CompareOptions{Channels: p.channels(), State: state, Common: common, Progress: p.progress(env)}
			for i := range urls {
				if o.Servers[i], err = openServer(ctx, urlFlag+[]string{"1", "2"}[i], urls[i], rootCert); err != nil {
					return err
				}
				defer closeServer(o.Servers[i]) //nolint:errcheck // nothing is pending
			}
			c, err := audit.Compare(ctx, a, b, o)
			if err != nil {
				return err
			}
			if p.json {
				err = printJSON(env.Stdout, c)
			} else {
				printComparison(env.Stdout, c)
			}
			if err == nil && !c.Same {
				return &cli.Exit{Code: exitBad}
			}
			return err
		}),
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&state, "state", false, "Compare the states of two peers as well, key by key.")
	cmd.Flags().BoolVar(&common, "common", false, "Compare only what both have: other heights, and channels of one alone, are no difference.")
	for i, n := range []string{"1", "2"} {
		cmd.Flags().StringVar(&urls[i], urlFlag+n, "", "CouchDB server that has the state of DIR"+n+".")
	}
	cmd.Flags().StringVar(&rootCert, rootCertFlag, "", "File with the authorities that the servers are trusted by; those of the machine if not given.")
	return cmd
}

func printComparison(w io.Writer, c *audit.Comparison) {
	if len(c.Channels) == 0 {
		fmt.Fprintln(w, "no channels")
	}
	for _, ch := range c.Channels {
		fmt.Fprintf(w, "%s: %s\n", ch.ID, outcome(c, ch))
		for _, d := range []*audit.Difference{ch.Difference, ch.StateDifference} {
			if d != nil {
				fmt.Fprintf(w, "  %s: %s\n  %s: %s\n", c.Paths[0], d.A, c.Paths[1], d.B)
			}
		}
		for _, note := range ch.Notes {
			fmt.Fprintf(w, "  note: %s\n", note)
		}
	}
}

// outcome is what came out for a channel, in a line.
func outcome(c *audit.Comparison, ch *audit.ChannelComparison) string {
	if ch.OnlyIn > 0 {
		return "only in " + c.Paths[ch.OnlyIn-1]
	}
	if ch.Difference != nil {
		return fmt.Sprintf("DIFFERENT at %s (the %s before it are the same)", ch.Difference, count(ch.Blocks, "block"))
	}
	text := "the same, " + count(ch.Blocks, "block")
	if a, b := ch.Heights[0], ch.Heights[1]; a != b {
		longer := c.Paths[0]
		if b > a {
			longer, a, b = c.Paths[1], b, a
		}
		text = fmt.Sprintf("the same in the %s that both have; %s is longer by %s", count(ch.Blocks, "block"), longer, count(a-b, "block"))
		if a-b > 1 {
			text += fmt.Sprintf(" (%d to %d)", b, a-1)
		}
	}
	switch {
	case ch.StateDifference != nil:
		return fmt.Sprintf("DIFFERENT in the state at %s; blocks: %s", ch.StateDifference, text)
	case ch.StateKeys > 0:
		text += fmt.Sprintf(", %s of the state", count(ch.StateKeys, "key"))
	}
	return text
}
