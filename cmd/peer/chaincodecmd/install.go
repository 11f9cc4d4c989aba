package chaincodecmd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/chaincode/platform"
	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

func (g *group) installCmd() *cobra.Command {
	const does = "Package the specified chaincode into a deployment spec and save it on the peer's path."
	cmd := &cobra.Command{
		Use: "install", Short: does, Long: does,
		RunE: func(cmd *cobra.Command, args []string) error {
			cli.Checked(cmd)
			f, err := g.InitCmdFactory(cmd.Context(), "install", false)
			if err != nil {
				return err
			}
			defer f.close()
			pkg, err := g.packageToInstall(cmd, args)
			if err != nil {
				return err
			}
			return g.install(cmd.Context(), f, pkg)
		},
	}
	g.flags(cmd.Flags(), "lang", "ctor", "path", "name", "version", "peers")
	return cmd
}

// packageToInstall is the content of the package file, or a package made of the
// path of the flags.
func (g *group) packageToInstall(cmd *cobra.Command, args []string) ([]byte, error) {
	if len(args) > 0 {
		return g.readPackage(args[0])
	}
	if g.name == "" || g.path == "" || g.version == "" {
		return nil, errors.New("Must supply value for chaincode name, path and version parameters.")
	}
	cds, err := g.deploymentSpec(cmd, "install")
	if err != nil {
		return nil, err
	}
	return protoutil.Marshal(cds), nil
}

func (g *group) readPackage(file string) ([]byte, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pkg, err := packaging.Parse(raw)
	if err != nil {
		return nil, err
	}
	if g.name != "" && g.name != pkg.Name() {
		return nil, fmt.Errorf("chaincode name %s does not match name %s in package", g.name, pkg.Name())
	}
	if g.version != "" && g.version != pkg.Version() {
		return nil, fmt.Errorf("chaincode version %s does not match version %s in packages", g.version, pkg.Version())
	}
	return raw, nil
}

// deploymentSpec packages the source code that the flags name.
func (g *group) deploymentSpec(cmd *cobra.Command, verb string) (*peer.ChaincodeDeploymentSpec, error) {
	if err := g.checked(cmd, verb); err != nil {
		return nil, err
	}
	spec, err := g.spec()
	if err != nil {
		return nil, err
	}
	code, path, err := platform.Code(spec.Type, spec.ChaincodeId.Path)
	if err != nil {
		return nil, fmt.Errorf("error getting chaincode package bytes: %w", err)
	}
	spec.ChaincodeId.Path = path
	return packaging.BuildCDS(spec.Type, spec.ChaincodeId, spec.Input, code), nil
}

func (g *group) install(ctx context.Context, f *factory, pkg []byte) error {
	_, responses, err := g.propose(ctx, f, lsccProposal("", []byte("install"), pkg))
	if err != nil {
		return fmt.Errorf("error endorsing chaincode install: %w", err)
	}
	r := responses[0]
	if s := r.GetResponse().GetStatus(); s != int32(common.Status_SUCCESS) {
		return fmt.Errorf("Bad response: %d - %s", s, r.GetResponse().GetMessage())
	}
	g.env.Logger("chaincodeCmd").Infof("Installed remotely %v", protoutil.Text(r))
	return nil
}

func (g *group) packageCmd() *cobra.Command {
	const does = "Package the specified chaincode into a deployment spec."
	cmd := &cobra.Command{
		Use: "package", Short: does, Long: does,
		RunE: func(cmd *cobra.Command, args []string) error {
			cli.Checked(cmd)
			if len(args) != 1 {
				return errors.New("output file not specified or invalid number of args (filename should be the only arg)")
			}
			cds, err := g.deploymentSpec(cmd, "package")
			if err != nil {
				return err
			}
			out, err := g.packageBytes(cds)
			if err != nil {
				return err
			}
			return os.WriteFile(args[0], out, 0o700)
		},
	}
	g.flags(cmd.Flags(), "lang", "ctor", "path", "name", "version")
	cmd.Flags().BoolVarP(&g.ccPackage, "cc-package", "s", false, "create CC deployment spec for owner endorsements instead of raw CC deployment spec")
	cmd.Flags().BoolVarP(&g.sign, "sign", "S", false, "if creating CC deployment spec package for owner endorsements, also sign it with local MSP")
	cmd.Flags().StringVarP(&g.instPolicy, "instantiate-policy", "i", "", "instantiation policy for the chaincode")
	return cmd
}

// packageBytes is the package in raw or signed form.
func (g *group) packageBytes(cds *peer.ChaincodeDeploymentSpec) ([]byte, error) {
	raw := protoutil.Marshal(cds)
	if !g.ccPackage {
		return raw, nil
	}
	expr := g.instPolicy
	if expr == "" {
		expr = fmt.Sprintf("AND('%s.admin')", g.env.Signer().MSPID())
	}
	env, err := policy.FromString(expr)
	if err != nil {
		return nil, err
	}
	var owner packaging.Signer
	if g.sign {
		owner = g.env.Signer()
	}
	signed, err := packaging.BuildSigned(raw, protoutil.Marshal(env), owner)
	if err != nil {
		return nil, err
	}
	return protoutil.Marshal(signed), nil
}

func (g *group) signPackageCmd() *cobra.Command {
	return &cobra.Command{
		Use: "signpackage", Short: "Sign the specified chaincode package", Long: "Sign the specified chaincode package",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New("peer chaincode signpackage <inputpackage> <outputpackage>")
			}
			cli.Checked(cmd)
			raw, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			signed, err := packaging.AddOwner(raw, g.env.Signer())
			if err != nil {
				return err
			}
			if err := os.WriteFile(args[1], protoutil.Marshal(signed), 0o700); err != nil {
				return err
			}
			fmt.Fprintf(g.env.Stdout, "Wrote signed package to %s successfully\n", args[1])
			return nil
		},
	}
}

func (g *group) listCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "Get the instantiated chaincodes on a channel or installed chaincodes on a peer.",
		Long: "Get the instantiated chaincodes in the channel if specify channel, or get installed chaincodes on the peer",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if g.instanced && g.channel == "" {
				return errNoChannel
			}
			cli.Checked(cmd)
			f, err := g.InitCmdFactory(cmd.Context(), "list", false)
			if err != nil {
				return err
			}
			defer f.close()
			return g.list(cmd.Context(), f)
		},
	}
	g.flags(cmd.Flags(), "channel", "peers")
	cmd.Flags().BoolVar(&g.installed, "installed", false, "Get the installed chaincodes on a peer")
	cmd.Flags().BoolVar(&g.instanced, "instantiated", false, "Get the instantiated chaincodes on a channel")
	return cmd
}

func (g *group) list(ctx context.Context, f *factory) error {
	spec, title := lsccProposal(g.channel, []byte("getchaincodes")), fmt.Sprintf("Get instantiated chaincodes on channel %s:", g.channel)
	switch {
	case g.installed == g.instanced:
		return errors.New(`Must explicitly specify "--installed" or "--instantiated"`)
	case g.installed:
		spec, title = lsccProposal("", []byte("getinstalledchaincodes")), "Get installed chaincodes on peer:"
	}
	_, responses, err := g.propose(ctx, f, spec)
	if err != nil {
		return fmt.Errorf("error endorsing proposal: %w", err)
	}
	r := responses[0].GetResponse()
	if r == nil {
		return errors.New("proposal response had nil 'response'")
	}
	if r.Status != int32(common.Status_SUCCESS) {
		return fmt.Errorf("Bad response: %d - %s", r.Status, r.Message)
	}
	found := &peer.ChaincodeQueryResponse{}
	if err := proto.Unmarshal(r.Payload, found); err != nil {
		return err
	}
	fmt.Fprintln(g.env.Stdout, title)
	for _, c := range found.Chaincodes {
		fmt.Fprintln(g.env.Stdout, describe(c))
	}
	return nil
}

// describe is the line of one chaincode; empty fields are left out.
func describe(c *peer.ChaincodeInfo) string {
	line := ""
	for _, f := range []struct{ label, value string }{
		{"Name", c.Name},
		{"Version", c.Version},
		{"Path", c.Path},
		{"Input", c.Input},
		{"Escc", c.Escc},
		{"Vscc", c.Vscc},
		{"Id", fmt.Sprintf("%x", c.Id)},
	} {
		if f.value == "" {
			continue
		}
		if line != "" {
			line += ", "
		}
		line += f.label + ": " + f.value
	}
	return line
}
