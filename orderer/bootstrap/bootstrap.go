// Package bootstrap gets and checks the block that an orderer's system channel
// begins with (ORDERER §2.1 step 2).
//
// It owns no state and starts no goroutine. orderer/node imports it.
package bootstrap

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/chanconfig/profile"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// The values of General.GenesisMethod.
const (
	File        = "file"
	Provisional = "provisional"
)

// Config says where the block comes from.
type Config struct {
	Method string
	// File is the marshalled block, for method File.
	File string
	// Profile of configtx.yaml and id of the system channel, for Provisional.
	Profile, Channel string
	Getenv           func(string) string
	Log              *flog.Logger // root logger
}

// Block reads or makes the bootstrap block. The texts of errors are those with
// which the reference dies.
func Block(cfg Config) (*common.Block, error) {
	switch cfg.Method {
	case File:
		raw, err := os.ReadFile(cfg.File)
		if err != nil {
			return nil, fmt.Errorf("unable to bootstrap orderer. Error reading genesis block file: %w", err)
		}
		b := &common.Block{}
		if err := proto.Unmarshal(raw, b); err != nil {
			return nil, fmt.Errorf("unable to bootstrap orderer. Error unmarshalling genesis block: %w", err)
		}
		return b, nil
	case Provisional:
		return provisional(cfg)
	default:
		return nil, fmt.Errorf("Unknown genesis method: %s", cfg.Method)
	}
}

func provisional(cfg Config) (*common.Block, error) {
	log := cfg.Log.Named("common.tools.configtxgen")
	p, err := profile.Source{Getenv: cfg.Getenv, Log: log}.Load(cfg.Profile)
	if err != nil {
		return nil, err
	}
	group, err := profile.Encoder{Log: log}.ChannelGroup(p)
	if err != nil {
		return nil, fmt.Errorf("Error creating channel group: %w", err)
	}
	if p.Orderer == nil {
		return nil, errors.New("refusing to generate block which is missing orderer section")
	}
	return profile.GenesisBlock(cfg.Channel, group, time.Now())
}

// Validate checks that a block can begin a system channel.
func Validate(b *common.Block) error {
	if b == nil {
		return errors.New("nil block")
	}
	if len(b.GetData().GetData()) == 0 {
		return errors.New("empty block data")
	}
	if _, err := protoutil.FirstEnvelope(b); err != nil {
		return fmt.Errorf("failed extracting envelope from block: %w", err)
	}
	bundle, err := chanconfig.BundleFromBlock(b, chanconfig.Options{})
	if err != nil {
		return err
	}
	if _, ok := bundle.Consortiums(); !ok {
		return errors.New("the block isn't a system channel block because it lacks ConsortiumsConfig")
	}
	return nil
}
