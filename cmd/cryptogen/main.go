// Command cryptogen makes the key material of a test network.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	kingpin "gopkg.in/alecthomas/kingpin.v2"

	"github.com/heddle-ledger/heddle/internal/cryptogen"
	"github.com/heddle-ledger/heddle/internal/version"
)

// configFailure is the exit code after a mistake in the configuration.
const configFailure = 255

func main() {
	app := kingpin.New("cryptogen", "Utility for generating Hyperledger Fabric key material")
	gen := app.Command("generate", "Generate key material")
	output := gen.Flag("output", "The output directory in which to place artifacts").Default("crypto-config").String()
	genConfig := gen.Flag("config", "The configuration template to use").File()
	show := app.Command("showtemplate", "Show the default configuration template")
	ver := app.Command("version", "Show version information")
	ext := app.Command("extend", "Extend existing network")
	input := ext.Flag("input", "The input directory in which existing network place").Default("crypto-config").String()
	extConfig := ext.Flag("config", "The configuration template to use").File()

	switch kingpin.MustParse(app.Parse(os.Args[1:])) {
	case gen.FullCommand():
		run(cryptogen.Generate, *genConfig, *output)
	case ext.FullCommand():
		run(cryptogen.Extend, *extConfig, *input)
	case show.FullCommand():
		fmt.Print(cryptogen.DefaultTemplate)
	case ver.FullCommand():
		fmt.Printf("cryptogen:\n Version: %s\n Commit SHA: %s\n Go version: %s\n OS/Arch: %s/%s\n",
			version.Full, version.CommitSHA, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	}
}

type action func(*cryptogen.Network, string, io.Writer) error

func run(do action, config *os.File, dir string) {
	network, err := load(config)
	if err != nil {
		fmt.Printf("Error reading config: %s", err)
		os.Exit(configFailure)
	}
	err = do(network, dir, os.Stdout)
	var mistake *cryptogen.ConfigError
	switch {
	case err == nil:
	case errors.As(err, &mistake):
		fmt.Print(err)
		os.Exit(configFailure)
	default:
		fmt.Println(err)
		os.Exit(1)
	}
}

func load(config *os.File) (*cryptogen.Network, error) {
	text := []byte(cryptogen.DefaultTemplate)
	if config != nil {
		defer config.Close()
		var err error
		if text, err = io.ReadAll(config); err != nil {
			return nil, err
		}
	}
	return cryptogen.Parse(text)
}
