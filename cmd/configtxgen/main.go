// Command configtxgen makes genesis blocks, channel creation requests and anchor
// peer updates of configtx.yaml, and shows them (IDENTITY-CONFIG §8).
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/version"
)

const defaultChannelID = "testchainid"

func main() {
	os.Exit(run(os.Args[1:], world{stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}))
}

// world is what the command sees of its process.
type world struct {
	stdout, stderr io.Writer
	getenv         func(string) string
}

// options are the command's flags.
type options struct {
	outputBlock, outputCreateChannelTx, outputAnchorPeersUpdate string
	inspectBlock, inspectChannelCreateTx, printOrg              string
	profile, baseProfile, channelID, configPath, asOrg          string
	version                                                     bool
}

func (o *options) register(f *flag.FlagSet) {
	f.StringVar(&o.outputBlock, "outputBlock", "", "The path to write the genesis block to (if set)")
	f.StringVar(&o.channelID, "channelID", "", "The channel ID to use in the configtx")
	f.StringVar(&o.outputCreateChannelTx, "outputCreateChannelTx", "", "The path to write a channel creation configtx to (if set)")
	f.StringVar(&o.baseProfile, "channelCreateTxBaseProfile", "", "Specifies a profile to consider as the orderer system channel current state to allow modification of non-application parameters during channel create tx generation. Only valid in conjuction with 'outputCreateChannelTx'.")
	f.StringVar(&o.profile, "profile", "SampleInsecureSolo", "The profile from configtx.yaml to use for generation.")
	f.StringVar(&o.configPath, "configPath", "", "The path containing the configuration to use (if set)")
	f.StringVar(&o.inspectBlock, "inspectBlock", "", "Prints the configuration contained in the block at the specified path")
	f.StringVar(&o.inspectChannelCreateTx, "inspectChannelCreateTx", "", "Prints the configuration contained in the transaction at the specified path")
	f.StringVar(&o.outputAnchorPeersUpdate, "outputAnchorPeersUpdate", "", "Creates an config update to update an anchor peer (works only with the default channel creation, and only for the first update)")
	f.StringVar(&o.asOrg, "asOrg", "", "Performs the config generation as a particular organization (by name), only including values in the write set that org (likely) has privilege to set")
	f.StringVar(&o.printOrg, "printOrg", "", "Prints the definition of an organization as JSON. (useful for adding an org to a channel manually)")
	f.BoolVar(&o.version, "version", false, "Show version information")
}

// output tells whether anything is to be generated, so that a profile is needed.
func (o *options) output() bool {
	return o.outputBlock != "" || o.outputCreateChannelTx != "" || o.outputAnchorPeersUpdate != ""
}

// run does what the arguments ask and returns the exit code.
func run(args []string, w world) int {
	var o options
	flags := flag.NewFlagSet("configtxgen", flag.ContinueOnError)
	flags.SetOutput(w.stderr)
	o.register(flags)
	switch err := flags.Parse(args); {
	case err == flag.ErrHelp:
		return 0
	case err != nil:
		return 2 // the flag package has said why
	}
	if o.version {
		fmt.Fprintf(w.stdout, "configtxgen:\n Version: %s\n Commit SHA: %s\n Go version: %s\n OS/Arch: %s/%s\n",
			version.Full, version.CommitSHA, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return 0
	}
	logging, err := flog.New(w.stderr, w.getenv("FABRIC_LOGGING_FORMAT"), w.getenv("FABRIC_LOGGING_SPEC"))
	if err != nil {
		fmt.Fprintln(w.stderr, err)
		return 2
	}
	// Fatal lines look like the reference's; the exit is main's.
	log := logging.Logger("common.tools.configtxgen").WithOptions(zap.WithFatalHook(stayAlive{}))
	g := generator{options: o, out: w.stdout, getenv: w.getenv, log: log}
	if err := g.run(); err != nil {
		log.Fatal(err)
		return 1
	}
	return 0
}

// stayAlive keeps a fatal log line from ending the process.
type stayAlive struct{}

func (stayAlive) OnWrite(*zapcore.CheckedEntry, []zapcore.Field) {}
