package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/heddle-ledger/heddle/internal/chanconfig/profile"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protolator"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// outputMode is the mode of the files that the command writes.
const outputMode = 0o644

// generator does the work of one run, in the order of the reference.
type generator struct {
	options
	out    io.Writer
	getenv func(string) string
	log    *flog.Logger

	config *profile.Profile // with -profile, when something is generated
	base   *profile.Profile
	file   *profile.File
}

func (g *generator) run() error {
	if g.channelID == "" && g.output() {
		g.channelID = defaultChannelID
		g.log.Warningf("Omitting the channel ID for configtxgen for output operations is deprecated.  Explicitly passing the channel ID will be required in the future, defaulting to '%s'.", defaultChannelID)
	}
	if err := g.load(); err != nil {
		return err
	}
	for _, step := range []struct {
		wanted string
		name   string
		do     func() error
	}{
		{g.outputBlock, "outputBlock", g.writeBlock},
		{g.outputCreateChannelTx, "outputChannelCreateTx", g.writeCreationTx},
		{g.inspectBlock, "inspectBlock", g.showBlock},
		{g.inspectChannelCreateTx, "inspectChannelCreateTx", g.showCreationTx},
		{g.outputAnchorPeersUpdate, "inspectChannelCreateTx", g.writeAnchorPeers},
		{g.printOrg, "printOrg", g.showOrg},
	} {
		if step.wanted == "" {
			continue
		}
		err := step.do()
		var building *buildError
		switch {
		case errors.As(err, &building):
			return building
		case err != nil:
			return fmt.Errorf("Error on %s: %w", step.name, err)
		}
	}
	return nil
}

// buildError is a mistake in a profile, which the reference reports without
// saying what it was doing.
type buildError struct{ err error }

func (e *buildError) Error() string { return "Error creating channel group: " + e.err.Error() }
func (e *buildError) Unwrap() error { return e.err }

func (g *generator) load() error {
	g.log.Info("Loading configuration")
	source := profile.Source{Dir: g.configPath, Getenv: g.getenv, Log: g.log}
	var err error
	if g.output() {
		if g.config, err = loadProfile(source, g.profile); err != nil {
			return err
		}
	}
	if g.file, err = source.LoadTopLevel(); err != nil {
		return err
	}
	if g.baseProfile == "" {
		return nil
	}
	if g.outputCreateChannelTx == "" {
		g.log.Warning("Specified 'channelCreateTxBaseProfile', but did not specify 'outputChannelCreateTx', 'channelCreateTxBaseProfile' will not affect output.")
	}
	g.base, err = loadProfile(source, g.baseProfile)
	return err
}

func loadProfile(source profile.Source, name string) (*profile.Profile, error) {
	p, err := source.Load(name)
	if errors.Is(err, profile.ErrProfileNotFound) {
		return nil, fmt.Errorf("%w. Please make sure that FABRIC_CFG_PATH or -configPath is set to a path which contains configtx.yaml with the specified profile", err)
	}
	return p, err
}

func (g *generator) encoder() profile.Encoder { return profile.Encoder{Log: g.log} }

func (g *generator) writeBlock() error {
	group, err := g.encoder().ChannelGroup(g.config)
	if err != nil {
		return &buildError{err}
	}
	g.log.Info("Generating genesis block")
	if g.config.Orderer == nil {
		return errors.New("refusing to generate block which is missing orderer section")
	}
	if g.config.Consortiums == nil {
		g.log.Warning("Genesis block does not include a consortiums group definition.  This block cannot be used for orderer bootstrap.")
	}
	block, err := profile.GenesisBlock(g.channelID, group, time.Now())
	if err != nil {
		return err
	}
	g.log.Info("Writing genesis block")
	if err := os.WriteFile(g.outputBlock, protoutil.Marshal(block), outputMode); err != nil {
		return fmt.Errorf("Error writing genesis block: %w", err)
	}
	return nil
}

func (g *generator) writeCreationTx() error {
	g.log.Info("Generating new channel configtx")
	env, err := g.encoder().CreationTx(g.channelID, g.config, g.base, time.Now())
	if err != nil {
		return err
	}
	g.log.Info("Writing new channel tx")
	if err := os.WriteFile(g.outputCreateChannelTx, protoutil.Marshal(env), outputMode); err != nil {
		return fmt.Errorf("Error writing channel create tx: %w", err)
	}
	return nil
}

func (g *generator) writeAnchorPeers() error {
	g.log.Info("Generating anchor peer update")
	env, err := profile.AnchorPeersTx(g.channelID, g.config, g.asOrg)
	if err != nil {
		return err
	}
	g.log.Info("Writing anchor peer update")
	if err := os.WriteFile(g.outputAnchorPeersUpdate, protoutil.Marshal(env), outputMode); err != nil {
		return fmt.Errorf("Error writing channel anchor peer update: %w", err)
	}
	return nil
}

func (g *generator) showBlock() error {
	g.log.Info("Inspecting block")
	raw, err := os.ReadFile(g.inspectBlock)
	if err != nil {
		return fmt.Errorf("Could not read block %s", g.inspectBlock)
	}
	g.log.Info("Parsing genesis block")
	return g.show(raw, "common.Block", "error unmarshaling to block", "malformed block contents")
}

func (g *generator) showCreationTx() error {
	g.log.Info("Inspecting transaction")
	raw, err := os.ReadFile(g.inspectChannelCreateTx)
	if err != nil {
		return fmt.Errorf("could not read channel create tx: %w", err)
	}
	g.log.Info("Parsing transaction")
	return g.show(raw, "common.Envelope", "Error unmarshaling envelope", "malformed transaction contents")
}

// show prints a message as JSON; the texts are for bytes that are no such
// message and for opaque bytes inside that are not what they should be.
func (g *generator) show(raw []byte, typeName, malformed, malformedInside string) error {
	typ, ok := protolator.Lookup(typeName)
	if !ok {
		return fmt.Errorf("message of type %s unknown", typeName)
	}
	m, err := typ.Unmarshal(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", malformed, err)
	}
	if err := m.WriteJSON(g.out); err != nil {
		return fmt.Errorf("%s: %w", malformedInside, err)
	}
	return nil
}

func (g *generator) showOrg() error {
	for _, org := range g.file.Organizations {
		if org == nil || org.Name != g.printOrg {
			continue
		}
		group, err := g.encoder().ConsortiumOrg(org)
		if err != nil {
			return fmt.Errorf("bad org definition for org %s: %w", org.Name, err)
		}
		if err := protolator.ConsortiumOrg().WriteJSON(g.out, group); err != nil {
			return fmt.Errorf("malformed org definition for org: %s: %w", org.Name, err)
		}
		return nil
	}
	return fmt.Errorf("organization %s not found", g.printOrg)
}
