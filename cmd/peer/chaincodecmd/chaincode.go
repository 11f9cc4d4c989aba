// Package chaincodecmd is the command group `peer chaincode` (CHAINCODE §9).
//
// It keeps no state beyond the run of a command; waiting for events starts one
// goroutine per peer, which ends with the command. The peer command imports it.
package chaincodecmd

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
)

// group holds the flags of one run.
type group struct {
	env     *cli.Env
	orderer cli.OrdererFlags

	transient  string
	channel    string
	name       string
	version    string
	path       string
	lang       string
	ctor       string
	policy     string
	escc       string
	vscc       string
	collFile   string
	profile    string
	peers      []string
	rootFiles  []string
	waitEvent  bool
	waitLimit  time.Duration
	hex, raw   bool
	installed  bool
	instanced  bool
	ccPackage  bool
	sign       bool
	instPolicy string

	// Compiled by checkChaincodeCmdParams.
	policyBytes []byte
	collections []byte
}

// New returns the command group.
func New(env *cli.Env) *cobra.Command {
	const verbs = "Operate a chaincode: install|instantiate|invoke|package|query|signpackage|upgrade|list."
	g := &group{env: env}
	cmd := &cobra.Command{Use: "chaincode", Short: verbs, Long: verbs, PersistentPreRunE: env.InitCmd}
	g.orderer.Register(cmd.PersistentFlags())
	cmd.PersistentFlags().StringVar(&g.transient, "transient", "", "Transient map of arguments in JSON encoding")
	cmd.AddCommand(
		g.installCmd(), g.instantiateCmd(), g.invokeCmd(), g.packageCmd(), g.queryCmd(), g.signPackageCmd(),
		g.upgradeCmd(), g.listCmd(),
	)
	return cmd
}

// flags registers the named flags.
func (g *group) flags(fs *pflag.FlagSet, names ...string) {
	all := map[string]func(){
		"lang": func() { fs.StringVarP(&g.lang, "lang", "l", "golang", "Language the chaincode is written in") },
		"ctor": func() {
			fs.StringVarP(&g.ctor, "ctor", "c", "{}", "Constructor message for the chaincode in JSON format")
		},
		"path": func() { fs.StringVarP(&g.path, "path", "p", "", "Path to chaincode") },
		"name": func() { fs.StringVarP(&g.name, "name", "n", "", "Name of the chaincode") },
		"channel": func() {
			fs.StringVarP(&g.channel, "channelID", "C", "", "The channel on which this command should be executed")
		},
		"version": func() {
			fs.StringVarP(&g.version, "version", "v", "", "Version of the chaincode specified in install/instantiate/upgrade commands")
		},
		"policy": func() {
			fs.StringVarP(&g.policy, "policy", "P", "", "The endorsement policy associated to this chaincode")
		},
		"escc": func() {
			fs.StringVarP(&g.escc, "escc", "E", "", "The name of the endorsement system chaincode to be used for this chaincode")
		},
		"vscc": func() {
			fs.StringVarP(&g.vscc, "vscc", "V", "", "The name of the verification system chaincode to be used for this chaincode")
		},
		"collections": func() {
			fs.StringVar(&g.collFile, "collections-config", "", "The fully qualified path to the collection JSON file including the file name")
		},
		"peers": func() {
			fs.StringArrayVar(&g.peers, "peerAddresses", nil, "The addresses of the peers to connect to")
			fs.StringArrayVar(&g.rootFiles, "tlsRootCertFiles", nil, "If TLS is enabled, the paths to the TLS root cert files of the peers to connect to. The order and number of certs specified should match the --peerAddresses flag")
			fs.StringVar(&g.profile, "connectionProfile", "", "Connection profile that provides the necessary connection information for the network. Note: currently only supported for providing peer connection information")
		},
	}
	for _, n := range names {
		all[n]()
	}
}

var errNoChannel = errors.New("The required parameter 'channelID' is empty. Rerun the command with -C flag")
