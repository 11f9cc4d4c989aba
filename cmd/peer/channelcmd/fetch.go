package channelcmd

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

func (g *group) fetchCmd() *cobra.Command {
	var bestEffort bool
	cmd := &cobra.Command{
		Use:   "fetch <newest|oldest|config|(number)> [outputfile]",
		Short: "Fetch a block",
		Long:  "Fetch a specified block, writing it to a file.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("fetch target required, oldest, newest, config, or a number")
			}
			if len(args) > 2 {
				return errors.New("trailing args detected")
			}
			cli.Checked(cmd)
			// Without a usable orderer endpoint the peer is asked.
			orderer := g.orderer.Valid()
			f, err := g.InitCmdFactory(cmd.Context(), connections{orderer: orderer, peerDeliver: !orderer})
			if err != nil {
				return err
			}
			defer f.close()
			f.deliver.BestEffort = bestEffort
			block, err := g.fetch(f.deliver, args[0])
			if err != nil {
				return err
			}
			file := g.channel + "_" + args[0] + ".block"
			if len(args) == 2 {
				file = args[1]
			}
			return os.WriteFile(file, protoutil.Marshal(block), 0o644)
		},
	}
	g.channelFlag(cmd.Flags())
	cmd.Flags().BoolVar(&bestEffort, "bestEffort", false, "Whether fetch requests should ignore errors and return blocks on a best effort basis")
	return cmd
}

// fetch gets the block of a target. Its name is part of the log line.
func (g *group) fetch(d *cli.Deliver, target string) (*common.Block, error) {
	switch target {
	case "oldest":
		return d.Oldest()
	case "newest":
		return d.Newest()
	case "config":
		newest, err := d.Newest()
		if err != nil {
			return nil, err
		}
		last, err := protoutil.LastConfigIndex(newest)
		if err != nil {
			return nil, err
		}
		block, err := d.Block(last)
		g.env.Logger("channelCmd").Infof("Retrieving last config block: %d", last)
		return block, err
	}
	n, err := strconv.ParseUint(target, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("fetch target illegal: %s", target)
	}
	return d.Block(n)
}
