package channelcmd

import (
	"fmt"
	"os"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/chanconfig/profile"
)

// defaultProfile is the profile of configtx.yaml that a channel is made from
// when no file is given.
const defaultProfile = "SampleSingleMSPChannel"

// defaultCreationTx builds the creation transaction from configtx.yaml.
func (g *group) defaultCreationTx() (*common.Envelope, error) {
	log := g.env.Logger("common.tools.configtxgen")
	p, err := profile.Source{Getenv: os.Getenv, Log: log}.Load(defaultProfile)
	if err != nil {
		return nil, fmt.Errorf("config update generation failure: %w", err)
	}
	env, err := profile.Encoder{Log: log}.CreationTx(g.channel, p, nil, time.Now())
	if err != nil {
		return nil, fmt.Errorf("config update generation failure: %w", err)
	}
	return env, nil
}
