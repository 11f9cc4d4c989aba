// Command configtxlator translates configuration messages to JSON and back,
// computes config updates, and offers both over HTTP (IDENTITY-CONFIG §9).
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	kingpin "gopkg.in/alecthomas/kingpin.v2"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/version"
)

// outputMode is the mode of new files, which may hold anything.
const (
	outputFlags = os.O_RDWR | os.O_CREATE | os.O_TRUNC
	outputMode  = 0o600
)

func main() {
	app := kingpin.New("configtxlator", "Utility for generating Hyperledger Fabric channel configurations")

	start := app.Command("start", "Start the configtxlator REST server")
	hostname := start.Flag("hostname", "The hostname or IP on which the REST server will listen").Default("0.0.0.0").String()
	port := start.Flag("port", "The port on which the REST server will listen").Default("7059").Int()
	cors := start.Flag("CORS", "Allowable CORS domains, e.g. '*' or 'www.example.com' (may be repeated).").Strings()

	encode := app.Command("proto_encode", "Converts a JSON document to protobuf.")
	encodeType := encode.Flag("type", "The type of protobuf structure to encode to.  For example, 'common.Config'.").Required().String()
	encodeInput := encode.Flag("input", "A file containing the JSON document.").Default(os.Stdin.Name()).File()
	encodeOutput := encode.Flag("output", "A file to write the output to.").Default(os.Stdout.Name()).OpenFile(outputFlags, outputMode)

	decode := app.Command("proto_decode", "Converts a proto message to JSON.")
	decodeType := decode.Flag("type", "The type of protobuf structure to decode from.  For example, 'common.Config'.").Required().String()
	decodeInput := decode.Flag("input", "A file containing the proto message.").Default(os.Stdin.Name()).File()
	decodeOutput := decode.Flag("output", "A file to write the JSON document to.").Default(os.Stdout.Name()).OpenFile(outputFlags, outputMode)

	compute := app.Command("compute_update", "Takes two marshaled common.Config messages and computes the config update which transitions between the two.")
	original := compute.Flag("original", "The original config message.").File()
	updated := compute.Flag("updated", "The updated config message.").File()
	channelID := compute.Flag("channel_id", "The name of the channel for this update.").Required().String()
	computeOutput := compute.Flag("output", "A file to write the JSON document to.").Default(os.Stdout.Name()).OpenFile(outputFlags, outputMode)

	ver := app.Command("version", "Show version information")

	switch kingpin.MustParse(app.Parse(os.Args[1:])) {
	case start.FullCommand():
		if err := serve(net.JoinHostPort(*hostname, strconv.Itoa(*port)), *cors); err != nil {
			app.Fatalf("Error starting server:[%s]\n", err)
		}
	case encode.FullCommand():
		exitOn(app, "Error decoding", encodeProto(*encodeType, *encodeInput, *encodeOutput))
	case decode.FullCommand():
		exitOn(app, "Error decoding", decodeProto(*decodeType, *decodeInput, *decodeOutput))
	case compute.FullCommand():
		exitOn(app, "Error computing update", computeUpdate(*original, *updated, *channelID, *computeOutput))
	case ver.FullCommand():
		fmt.Printf("configtxlator:\n Version: %s\n Commit SHA: %s\n Go version: %s\n OS/Arch: %s/%s\n",
			version.Full, version.CommitSHA, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	}
}

func exitOn(app *kingpin.Application, what string, err error) {
	if err != nil {
		app.Fatalf("%s: %s", what, err)
	}
}

// serve runs the REST server until the process is told to stop.
func serve(address string, origins []string) error {
	logging, err := flog.New(os.Stderr, os.Getenv("FABRIC_LOGGING_FORMAT"), os.Getenv("FABRIC_LOGGING_SPEC"))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	log := logging.Logger("configtxlator")
	log.Infof("Serving HTTP requests on %s", l.Addr())
	return newServer(log, origins).run(ctx, l)
}
