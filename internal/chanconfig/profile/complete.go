package profile

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// Orderer types.
const (
	typeSolo     = "solo"
	typeKafka    = "kafka"
	typeEtcdraft = "etcdraft"
)

const defaultAdminPrincipal = "Role.ADMIN"

// completer fills in defaults, makes paths absolute and checks the orderer
// section (IDENTITY-CONFIG §8.1).
type completer struct {
	dir string // of configtx.yaml
	log *flog.Logger
}

func (c completer) file(f *File) error {
	c.orgs(f.Organizations)
	if f.Application != nil {
		c.orgs(f.Application.Organizations)
	}
	if f.Orderer != nil {
		return c.orderer(f.Orderer)
	}
	return nil
}

func (c completer) profile(p *Profile) error {
	if p.Application != nil {
		c.orgs(p.Application.Organizations)
	}
	for _, consortium := range p.Consortiums {
		if consortium != nil {
			c.orgs(consortium.Organizations)
		}
	}
	if p.Orderer == nil {
		return nil
	}
	c.orgs(p.Orderer.Organizations)
	return c.orderer(p.Orderer)
}

func (c completer) orgs(orgs []*Organization) {
	for _, o := range orgs {
		if o == nil {
			continue
		}
		setDefault(&o.MSPType, "bccsp")
		setDefault(&o.AdminPrincipal, defaultAdminPrincipal)
		o.MSPDir = c.path(o.MSPDir)
	}
}

func (c completer) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

// setDefault sets a field that has its zero value and tells whether it did.
func setDefault[T comparable](field *T, value T) bool {
	var unset T
	if *field != unset {
		return false
	}
	*field = value
	return true
}

// fill sets a field of the orderer section and says so.
func fill[T comparable](log *flog.Logger, field *T, name string, value T) {
	if setDefault(field, value) {
		log.Infof("Orderer.%s unset, setting to %v", name, value)
	}
}

func (c completer) orderer(o *Orderer) error {
	fill(c.log, &o.OrdererType, "OrdererType", typeSolo)
	if len(o.Addresses) == 0 {
		o.Addresses = []string{"127.0.0.1:7050"}
		c.log.Infof("Orderer.Addresses unset, setting to %v", o.Addresses)
	}
	fill(c.log, &o.BatchTimeout, "BatchTimeout", 2*time.Second)
	fill(c.log, &o.BatchSize.MaxMessageCount, "BatchSize.MaxMessageCount", 500)
	fill(c.log, &o.BatchSize.AbsoluteMaxBytes, "BatchSize.AbsoluteMaxBytes", 10<<20)
	fill(c.log, &o.BatchSize.PreferredMaxBytes, "BatchSize.PreferredMaxBytes", 2<<20)
	c.log.Infof("orderer type: %s", o.OrdererType)

	switch o.OrdererType {
	case typeSolo:
	case typeKafka:
		if len(o.Kafka.Brokers) == 0 {
			o.Kafka.Brokers = []string{"127.0.0.1:9092"}
			c.log.Infof("Orderer.Kafka unset, setting to %v", o.Kafka.Brokers)
		}
	case typeEtcdraft:
		if o.EtcdRaft == nil {
			return errors.New("etcdraft raft configuration missing")
		}
		return c.raft(o.EtcdRaft)
	default:
		return fmt.Errorf("unknown orderer type: %s", o.OrdererType)
	}
	return nil
}

func (c completer) raft(r *EtcdRaft) error {
	if r.Options == nil {
		r.Options = &RaftOptions{}
	}
	o := r.Options
	fill(c.log, &o.TickInterval, "EtcdRaft.Options.TickInterval", "500ms")
	fill(c.log, &o.ElectionTick, "EtcdRaft.Options.ElectionTick", 10)
	fill(c.log, &o.HeartbeatTick, "EtcdRaft.Options.HeartbeatTick", 1)
	fill(c.log, &o.MaxInflightBlocks, "EtcdRaft.Options.MaxInflightBlocks", 5)
	fill(c.log, &o.SnapshotIntervalSize, "EtcdRaft.Options.SnapshotIntervalSize", 20<<20)

	if len(r.Consenters) == 0 {
		return errors.New("etcdraft configuration did not specify any consenter")
	}
	if _, err := time.ParseDuration(o.TickInterval); err != nil {
		return fmt.Errorf("Etcdraft TickInterval (%s) must be in time duration format", o.TickInterval)
	}
	if o.ElectionTick <= o.HeartbeatTick {
		return errors.New("election tick must be greater than heartbeat tick")
	}
	for _, n := range r.Consenters {
		switch {
		case n == nil || n.Host == "":
			return errors.New("consenter info in etcdraft configuration did not specify host")
		case n.Port == 0:
			return errors.New("consenter info in etcdraft configuration did not specify port")
		case n.ClientTLSCert == "":
			return errors.New("consenter info in etcdraft configuration did not specify client TLS cert")
		case n.ServerTLSCert == "":
			return errors.New("consenter info in etcdraft configuration did not specify server TLS cert")
		}
		n.ClientTLSCert, n.ServerTLSCert = c.path(n.ClientTLSCert), c.path(n.ServerTLSCert)
	}
	return nil
}
