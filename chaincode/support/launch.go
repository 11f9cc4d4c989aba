package support

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/chaincode/stream"
)

// acquire returns the stream of a chaincode, launching it if it is not
// connected. Concurrent requests for one name share one launch (CHAINCODE
// §5.1); a caller may leave, the launch goes on.
func (s *Support) acquire(ctx context.Context, def *Definition) (*stream.Stream, error) {
	st, l, begun, err := s.registry.join(def.CName())
	if st != nil || err != nil {
		return st, err
	}
	if begun {
		go s.launch(def, l)
	}
	select {
	case <-l.done:
		return l.stream, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// launch starts a chaincode, waits until it is ready, and then watches it
// until it ends.
func (s *Support) launch(def *Definition, l *launch) {
	cname := def.CName()
	life, over := s.registry.lifetime(l)
	defer over()
	start := time.Now()
	ctx, cancel := context.WithTimeout(life, s.cfg.StartupTimeout)
	defer cancel()

	inst, err := s.start(ctx, def)
	exited := make(chan error, 1)
	if err == nil {
		go func() { exited <- exitOf(life, inst) }()
		select {
		case <-l.done:
		case err = <-exited:
			exited <- err
			err = fmt.Errorf("chaincode registration failed: %w", err)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
		err = fmt.Errorf("timeout expired while starting chaincode %s for transaction", cname)
		s.metrics.launchTimeouts.With("chaincode", cname).Add(1)
	}
	stopped := err != nil && s.registry.abandon(l)
	if stopped {
		s.discard(cname, inst, exited)
	}
	err = s.registry.finish(cname, l, err)
	s.metrics.launchDuration.With("chaincode", cname, "success", strconv.FormatBool(err == nil)).Observe(time.Since(start).Seconds())
	if err != nil {
		s.metrics.launchFailures.With("chaincode", cname).Add(1)
		s.cfg.Log.Errorf("start-chaincode failed for %s: %s", cname, err)
		if !stopped {
			s.discard(cname, inst, exited)
		}
		return
	}
	// A chaincode that ends later is noticed through its stream; this is only
	// for the log.
	if err := <-exited; life.Err() == nil {
		s.cfg.Log.Infof("chaincode %s has ended: %s", cname, err)
	}
}

// discard stops the instance of a failed launch, if it has come to one.
func (s *Support) discard(cname string, inst runtime.Instance, exited <-chan error) {
	if inst == nil {
		return
	}
	inst.Stop()
	<-exited
	s.registry.take(cname)
}

// start makes everything a launch needs and hands it to the runtime.
func (s *Support) start(ctx context.Context, def *Definition) (runtime.Instance, error) {
	spec := &runtime.Spec{
		Name: def.Name, Version: def.Version, Path: def.Path, Type: def.Type,
		PeerAddress: s.cfg.PeerAddress, Environment: s.cfg.Environment,
	}
	p, err := s.cfg.Packages.Load(def.Name, def.Version)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("code package not found for chaincode with name '%s', version '%s'", def.Name, def.Version)
		}
		return nil, fmt.Errorf("failed to get chaincode package: %w", err)
	}
	spec.CodePackage = p.CodePackage()
	if s.cfg.TLS != nil {
		if spec.TLS, err = s.cfg.TLS.issue(spec.CName()); err != nil {
			return nil, fmt.Errorf("failed to generate TLS certificates for %s: %w", spec.CName(), err)
		}
	}
	// An earlier instance whose stream has ended is of no use any more.
	if old := s.registry.take(spec.CName()); old != nil {
		old.Stop()
	}
	inst, err := s.cfg.Runtime.Start(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("error starting container: %w", err)
	}
	s.registry.record(spec.CName(), inst)
	return inst, nil
}

// exitOf waits for the end of an instance and describes it.
func exitOf(ctx context.Context, inst runtime.Instance) error {
	code, err := inst.Wait(ctx)
	if err != nil {
		return fmt.Errorf("failed to wait on container exit: %w", err)
	}
	if out := inst.Output(); out != "" {
		return fmt.Errorf("container exited with %d: %s", code, out)
	}
	return fmt.Errorf("container exited with %d", code)
}
