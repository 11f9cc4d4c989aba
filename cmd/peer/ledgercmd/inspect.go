package ledgercmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/ledger/audit"
)

// question is what `inspect` is asked.
type question struct {
	place
	block, txid, key string
	output           string
}

func inspectCmd(env *cli.Env) *cobra.Command {
	var q question
	cmd := &cobra.Command{
		Use: "inspect", Short: "Shows what is in the data of a node.",
		Long: `Shows what is in the data of a node that is down. Without -b, -t or --key: the
channels with their heights, hashes and sizes, and how far the other stores are.
With one of them: a block, a transaction or a key of the state, as JSON; member
"block" of a block and "envelope" of a transaction have the form of configtxlator
proto_decode. Nothing is verified on the way.

Exit code 0: shown; 2: wrong use, not found, or it cannot be looked at.`,
		RunE: action(env, func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			if err := noArguments(args); err != nil {
				return err
			}
			asked := 0
			for _, text := range []string{q.block, q.txid, q.key} {
				if text != "" {
					asked++
				}
			}
			if asked > 1 {
				return usageError{errors.New("only one of -b, -t and --key can be given")}
			}
			d, _, err := q.open()
			if err != nil {
				return err
			}
			defer d.Close()
			answer, err := q.ask(ctx, env, d)
			if err != nil {
				return err
			}
			return q.print(env, answer)
		}),
	}
	q.flags(cmd)
	q.pathFlag(cmd)
	cmd.Flags().StringVarP(&q.block, "blockNumber", "b", "", "Block to show: a number, oldest, newest or config.")
	cmd.Flags().StringVarP(&q.txid, "txID", "t", "", "Id of the transaction to show.")
	cmd.Flags().StringVar(&q.key, "key", "", `Key of the state to show, as namespace/key; in the key, \x00 stands for a zero byte.`)
	cmd.Flags().StringVarP(&q.output, "output", "o", "", "File to write to instead of the standard output.")
	return cmd
}

// ask gets the answer.
func (q *question) ask(ctx context.Context, env *cli.Env, d *audit.Dir) (any, error) {
	if q.block == "" && q.txid == "" && q.key == "" {
		return audit.Inspect(ctx, d, q.channels())
	}
	channel := q.channel
	if channel == "" {
		all, err := d.Channels()
		if err != nil {
			return nil, err
		}
		if len(all) != 1 {
			return nil, usageError{fmt.Errorf("name a channel with -c: %s has %s", d.Path, audit.ListOf(all))}
		}
		channel = all[0]
	}
	switch {
	case q.txid != "":
		return audit.Transaction(ctx, d, channel, q.txid, q.progress(env))
	case q.key != "":
		ns, key, err := audit.ParseKey(q.key)
		if err != nil {
			return nil, usageError{err}
		}
		return audit.Key(d, channel, ns, key)
	}
	return q.askBlock(ctx, d, channel)
}

func (q *question) askBlock(ctx context.Context, d *audit.Dir, channel string) (any, error) {
	switch q.block {
	case "oldest":
		return audit.Block(ctx, d, channel, 0)
	case "newest":
		return audit.NewestBlock(ctx, d, channel)
	case "config":
		last, err := audit.NewestBlock(ctx, d, channel)
		if err != nil {
			return nil, err
		}
		return audit.Block(ctx, d, channel, last.LastConfig)
	}
	n, err := strconv.ParseUint(q.block, 10, 64)
	if err != nil {
		return nil, usageError{fmt.Errorf("[%s] is not a block: a number, oldest, newest or config", q.block)}
	}
	return audit.Block(ctx, d, channel, n)
}

// print writes the answer where it is wanted.
func (q *question) print(env *cli.Env, answer any) (err error) {
	w := env.Stdout
	if q.output != "" {
		f, err := os.Create(q.output)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		w = f
	}
	if o, ok := answer.(*audit.Overview); ok && !q.json {
		return printOverview(w, o)
	}
	return printJSON(w, answer)
}

func printOverview(w io.Writer, o *audit.Overview) error {
	fmt.Fprintf(w, "%s of %s: %s\n", o.Path, map[audit.Kind]string{audit.Peer: "a peer", audit.Orderer: "an orderer"}[o.Kind], count(uint64(len(o.Channels)), "channel"))
	for i := range o.Channels {
		c := &o.Channels[i]
		fmt.Fprintf(w, "%s\n", c.ID)
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		row := func(name, format string, args ...any) {
			fmt.Fprintf(t, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
		}
		row("height", "%d", c.Height)
		if c.LastHash != "" {
			row("last block hash", "%s", c.LastHash)
			row("previous block hash", "%s", c.PreviousHash)
			row("last configuration", "block %d", c.LastConfig)
		}
		if c.CommitHash != "" {
			row("last commit hash", "%s", c.CommitHash)
		}
		if c.LastTime != "" {
			row("last transaction", "%s", c.LastTime)
		}
		row("block files", "%d, %d bytes", c.Files, c.Bytes)
		for _, s := range []struct {
			name   string
			height *uint64
		}{{"index", c.Index}, {"state", c.State}, {"history", c.History}, {"private data", c.Private}} {
			if s.height != nil {
				row(s.name, "height %d", *s.height)
			}
		}
		if c.Remark != "" {
			row("remark", "%s", c.Remark)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}
