package chaincodecmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// checkChaincodeCmdParams checks name, version, plugins, policy, collections and
// arguments, in this order, for the command's verb. Its name is part of the log
// lines.
func (g *group) checkChaincodeCmdParams(verb string) error {
	if g.name == "" {
		return errors.New("must supply value for chaincode name parameter")
	}
	deploys := verb == "instantiate" || verb == "upgrade"
	if deploys || verb == "install" || verb == "package" {
		if g.version == "" {
			return fmt.Errorf("chaincode version is not provided for %s", verb)
		}
		log := g.env.Logger("chaincodeCmd")
		for _, p := range g.plugins() {
			if *p.value != "" {
				log.Infof("Using %s %s", p.name, *p.value)
			} else {
				log.Infof("Using default %s", p.name)
				*p.value = p.name
			}
		}
		if err := g.checkDefinition(); err != nil {
			return err
		}
	}
	return g.checkCtor(deploys || verb == "invoke" || verb == "query")
}

// plugin is one of the two plugins of a definition.
type plugin struct {
	name  string // also the default value
	value *string
}

func (g *group) plugins() []plugin { return []plugin{{"escc", &g.escc}, {"vscc", &g.vscc}} }

func (g *group) checkDefinition() error {
	if g.policy != "" {
		env, err := policy.FromString(g.policy)
		if err != nil {
			return fmt.Errorf("invalid policy %s", g.policy)
		}
		g.policyBytes = protoutil.Marshal(env)
	}
	if g.collFile != "" {
		var err error
		if g.collections, err = readCollections(g.collFile); err != nil {
			return fmt.Errorf("invalid collection configuration in file %s: %w", g.collFile, err)
		}
	}
	return nil
}

const ctorKeys = "JSON chaincode parameters must contain the following keys: 'Args' or 'Function' and 'Args'"

// checkCtor checks the shape of -c. An empty object is fine where no arguments
// are needed.
func (g *group) checkCtor(needed bool) error {
	if g.ctor == "{}" {
		if needed {
			return errors.New("empty " + ctorKeys)
		}
		return nil
	}
	var any json.RawMessage
	if err := json.Unmarshal([]byte(g.ctor), &any); err != nil {
		return fmt.Errorf("chaincode argument error: %w", err)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(g.ctor), &object); err != nil {
		return errors.New("non-empty " + ctorKeys)
	}
	keys := map[string]bool{}
	for k := range object {
		keys[strings.ToLower(k)] = true
	}
	switch {
	case len(object) == 1 && keys["args"], len(object) == 2 && keys["args"] && keys["function"]:
		return nil
	case len(object) == 0:
		return errors.New("empty " + ctorKeys)
	}
	return errors.New("non-empty " + ctorKeys)
}

// strArgs is the form of -c. The name is part of error texts.
type strArgs struct {
	Function string
	Args     []string
}

// spec is the chaincode spec that the flags describe.
func (g *group) spec() (*peer.ChaincodeSpec, error) {
	var args strArgs
	if err := json.Unmarshal([]byte(g.ctor), &args); err != nil {
		return nil, fmt.Errorf("chaincode argument error: %w", err)
	}
	in := &peer.ChaincodeInput{}
	if args.Function != "" {
		in.Args = append(in.Args, []byte(args.Function))
	}
	for _, a := range args.Args {
		in.Args = append(in.Args, []byte(a))
	}
	return &peer.ChaincodeSpec{
		Type:        peer.ChaincodeSpec_Type(peer.ChaincodeSpec_Type_value[strings.ToUpper(g.lang)]),
		ChaincodeId: &peer.ChaincodeID{Path: g.path, Name: g.name, Version: g.version},
		Input:       in,
	}, nil
}

// checked runs the parameter checks, whose errors are followed by the usage
// text.
func (g *group) checked(cmd *cobra.Command, verb string) error {
	cmd.SilenceUsage = false
	if err := g.checkChaincodeCmdParams(verb); err != nil {
		return err
	}
	cmd.SilenceUsage = true
	return nil
}

// collection is one entry of a collections file.
type collection struct {
	Name              string `json:"name"`
	Policy            string `json:"policy"`
	RequiredPeerCount *int32 `json:"requiredPeerCount"`
	MaxPeerCount      *int32 `json:"maxPeerCount"`
	BlockToLive       uint64 `json:"blockToLive"`
	MemberOnlyRead    bool   `json:"memberOnlyRead"`
}

// Peer counts of a collection that does not say.
const (
	defaultRequiredPeers = 0
	defaultMaxPeers      = 1
)

func readCollections(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("could not read file '%s': %w", file, err)
	}
	var list []collection
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("could not parse the collection configuration: %w", err)
	}
	pkg := &peer.CollectionConfigPackage{}
	for _, c := range list {
		env, err := policy.FromString(c.Policy)
		if err != nil {
			return nil, fmt.Errorf("invalid policy %s: %w", c.Policy, err)
		}
		pkg.Config = append(pkg.Config, &peer.CollectionConfig{
			Payload: &peer.CollectionConfig_StaticCollectionConfig{StaticCollectionConfig: &peer.StaticCollectionConfig{
				Name: c.Name,
				MemberOrgsPolicy: &peer.CollectionPolicyConfig{
					Payload: &peer.CollectionPolicyConfig_SignaturePolicy{SignaturePolicy: env},
				},
				RequiredPeerCount: valueOr(c.RequiredPeerCount, defaultRequiredPeers),
				MaximumPeerCount:  valueOr(c.MaxPeerCount, defaultMaxPeers),
				BlockToLive:       c.BlockToLive,
				MemberOnlyRead:    c.MemberOnlyRead,
			}},
		})
	}
	return protoutil.Marshal(pkg), nil
}

func valueOr(v *int32, def int32) int32 {
	if v == nil {
		return def
	}
	return *v
}
