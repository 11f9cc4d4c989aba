package ledgercmd

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/ledger/audit"
)

func verifyCmd(env *cli.Env) *cobra.Command {
	var p place
	var o struct {
		state, couch  bool
		temp          string
		url, rootCert string
	}
	cmd := &cobra.Command{
		Use: "verify", Short: "Says whether the data of a node are sound.",
		Long: `Says whether the data of a node that is down are sound: that all blocks are
there and follow each other, that their data are what the headers say, that they
are signed as the channel demands; on a peer also that commit hashes, index,
history, private data and the state's savepoint agree with the blocks. With
--state, the state is compared with one that is built anew from the blocks in a
temporary directory.

A state in CouchDB is read from the server that core.yaml names, or --couchdbURL.
` + serverHelp + `
Exit code 0: sound (what the next start mends by itself counts as sound);
1: damaged; 2: wrong use, or the directory cannot be looked at.`,
		RunE: action(env, func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if err := noArguments(args); err != nil {
				return err
			}
			d, core, err := p.open()
			if err != nil {
				return err
			}
			defer d.Close()
			opts := audit.Options{
				Channels: p.channels(), State: o.state, CouchDB: o.couch, TempDir: o.temp, Progress: p.progress(env),
			}
			if opts.Server, err = openServer(ctx, urlFlag, o.url, o.rootCert); err != nil {
				return err
			}
			if core != nil {
				opts.History = &core.Ledger.HistoryEnabled
				if opts.Server == nil {
					opts.Server, err = openConfigured(ctx, core)
				}
				if err != nil {
					return err
				}
			}
			defer closeServer(opts.Server) //nolint:errcheck // nothing is pending
			report, err := audit.Verify(ctx, d, opts)
			if err != nil {
				return err
			}
			if p.json {
				err = printJSON(env.Stdout, report)
			} else {
				printReport(env.Stdout, report)
			}
			if err == nil && !report.Sound {
				return &cli.Exit{Code: exitBad}
			}
			return err
		}),
	}
	p.flags(cmd)
	p.pathFlag(cmd)
	cmd.Flags().BoolVar(&o.state, "state", false, "Compare the state with one built anew from the blocks; takes as much time and room as a rebuild.")
	cmd.Flags().BoolVar(&o.couch, "couchdb", false, "The peer keeps its state in CouchDB, so there is none in the directory; without a server, it is left out.")
	cmd.Flags().StringVar(&o.url, urlFlag, "", "CouchDB server that has the state, if not that of core.yaml.")
	cmd.Flags().StringVar(&o.rootCert, rootCertFlag, "", "File with the authorities that --"+urlFlag+" is trusted by; those of the machine if not given.")
	cmd.Flags().StringVar(&o.temp, "tempDir", "", "Where to keep what has to be computed; the system's temporary directory if not given.")
	return cmd
}

// printReport prints a report for people.
func printReport(w io.Writer, r *audit.Report) {
	if len(r.Findings) > 0 {
		fmt.Fprintf(w, "%s:\n", r.Path)
		printFindings(w, r.Findings)
	}
	if len(r.Channels) == 0 {
		fmt.Fprintf(w, "%s: no channels\n", r.Path)
	}
	for _, c := range r.Channels {
		verdict := "ok"
		if !c.Sound {
			verdict = "DAMAGED"
		}
		fmt.Fprintf(w, "%s: %s, %s, %s\n", c.ID, count(c.Blocks, "block"), count(c.Transactions, "transaction"), verdict)
		var checked, skipped []string
		for _, check := range c.Checks {
			text := check.Name
			if check.Detail != "" {
				text += " (" + check.Detail + ")"
			}
			switch check.Result {
			case audit.Skipped:
				skipped = append(skipped, text)
			case audit.Failed:
				checked = append(checked, strings.ToUpper(check.Name)+strings.TrimPrefix(text, check.Name))
			default:
				checked = append(checked, text)
			}
		}
		printList(w, "checked", checked)
		printList(w, "skipped", skipped)
		printFindings(w, c.Findings)
	}
	if !r.Sound {
		fmt.Fprintf(w, "%s: DAMAGED\n", r.Path)
	}
}

func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// printList prints a list, with lines of bearable length.
func printList(w io.Writer, title string, items []string) {
	const most = 100
	line := "  " + title + ":"
	for i, item := range items {
		if i < len(items)-1 {
			item += ","
		}
		if len(line)+1+len(item) > most {
			fmt.Fprintln(w, line)
			line = "   "
		}
		line += " " + item
	}
	if len(items) > 0 {
		fmt.Fprintln(w, line)
	}
}

func printFindings(w io.Writer, list []audit.Finding) {
	for i := range list {
		f := &list[i]
		fmt.Fprintf(w, "  %s [%s]", f.Severity, f.Kind)
		if where := f.Where(); where != "" {
			fmt.Fprintf(w, " %s", where)
		}
		fmt.Fprintf(w, ":\n    %s\n", f.Problem)
		if f.Consequence != "" {
			fmt.Fprintf(w, "    consequence: %s\n", f.Consequence)
		}
		if f.Remedy != "" {
			fmt.Fprintf(w, "    remedy: %s\n", f.Remedy)
		}
	}
}
