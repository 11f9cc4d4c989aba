package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
)

// verifyChannel is the id under which a configuration is loaded.
const verifyChannel = "sanitycheck"

// findings are what verify says of a configuration.
type findings struct {
	GeneralErrors   []string  `json:"general_errors"`
	ElementWarnings []finding `json:"element_warnings"`
	ElementErrors   []finding `json:"element_errors"`
}

// finding is about one element of the configuration.
type finding struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

// verify loads a configuration and looks for policies that name organizations
// which are not in the network. The answer is JSON on one line.
func verify(config *common.Config) []byte {
	var f findings
	bundle, err := chanconfig.NewBundle(verifyChannel, config, chanconfig.Options{})
	if err != nil {
		f.GeneralErrors = []string{err.Error()}
	} else {
		v := verifier{known: mspsInNetwork(bundle), findings: &f}
		v.group("", config.ChannelGroup)
	}
	// Strings and slices of strings always marshal.
	out, _ := json.Marshal(f)
	return out
}

// mspsInNetwork are the MSPs of application and orderer organizations.
func mspsInNetwork(b *chanconfig.Bundle) map[string]bool {
	known := make(map[string]bool)
	if a, ok := b.Application(); ok {
		for _, org := range a.Orgs {
			known[org.MSPID] = true
		}
	}
	if o, ok := b.Orderer(); ok {
		for _, org := range o.Orgs {
			known[org.MSPID] = true
		}
	}
	return known
}

type verifier struct {
	known    map[string]bool
	findings *findings
}

func (v verifier) group(path string, g *common.ConfigGroup) {
	for _, name := range slices.Sorted(maps.Keys(g.GetPolicies())) {
		v.policy(path+".policies."+name, name, g.Policies[name].GetPolicy())
	}
	for _, name := range slices.Sorted(maps.Keys(g.GetGroups())) {
		v.group(path+".groups."+name, g.Groups[name])
	}
}

func (v verifier) policy(path, name string, p *common.Policy) {
	if p == nil {
		v.fail(path, "no policy value set for %s", name)
		return
	}
	if p.Type != int32(common.Policy_SIGNATURE) {
		return
	}
	env := &common.SignaturePolicyEnvelope{}
	if err := proto.Unmarshal(p.Value, env); err != nil {
		v.fail(path, "error unmarshaling policy value to SignaturePolicyEnvelope: %s", err)
		return
	}
	for i, id := range env.Identities {
		mspID, named, err := mspOf(id)
		switch {
		case err != nil:
			v.fail(path, "value of identities array at index %d is of type %s, but could not be unmarshaled to %s", i, id.PrincipalClassification, err)
		case named && !v.known[mspID]:
			v.findings.ElementWarnings = append(v.findings.ElementWarnings, finding{
				path, fmt.Sprintf("identity principal at index %d refers to MSP ID '%s', which is not an MSP in the network", i, mspID),
			})
		}
	}
}

// mspOf returns the MSP id that a principal names, if it is of a kind that names
// one. The error begins with the type that the principal is not.
func mspOf(p *msp.MSPPrincipal) (id string, named bool, err error) {
	switch p.GetPrincipalClassification() {
	case msp.MSPPrincipal_ROLE:
		role := &msp.MSPRole{}
		if err := proto.Unmarshal(p.Principal, role); err != nil {
			return "", false, fmt.Errorf("msp.MSPRole: %w", err)
		}
		return role.MspIdentifier, true, nil
	case msp.MSPPrincipal_ORGANIZATION_UNIT:
		ou := &msp.OrganizationUnit{}
		if err := proto.Unmarshal(p.Principal, ou); err != nil {
			return "", false, fmt.Errorf("msp.OrganizationUnit: %w", err)
		}
		return ou.MspIdentifier, true, nil
	}
	return "", false, nil
}

func (v verifier) fail(path, format string, args ...any) {
	v.findings.ElementErrors = append(v.findings.ElementErrors, finding{path, fmt.Sprintf(format, args...)})
}
