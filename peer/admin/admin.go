// Package admin is the service protos.Admin of a 1.4 peer: status and log
// levels, for administrators of the peer's own organisation
// (ENDORSE-VALIDATE §12).
//
// It owns the log specification of the start, to which RevertLogLevels returns;
// it starts no goroutine. peer/node imports it.
package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/rpc"
	"github.com/heddle-ledger/heddle/msp"
	pb "github.com/heddle-ledger/heddle/protos/admin"
)

// HeaderType is PEER_ADMIN_OPERATION, which common.HeaderType of today lacks.
const HeaderType = 8

// timeWindow is how far the timestamp of a request may be off.
const timeWindow = 15 * time.Minute

var (
	errDenied     = errors.New("access denied")
	errNilRequest = errors.New("request is nil")
)

// Logs is the root of the process's loggers; *flog.Logging is one.
type Logs interface {
	Spec() string
	ActivateSpec(spec string) error
	Level(logger string) zapcore.Level
}

// Config is what a Server needs.
type Config struct {
	Local      msp.Deserializer
	LocalMSPID string
	Logs       Logs
	Log        *flog.Logger
}

// Server implements protos.Admin.
type Server struct {
	pb.UnimplementedAdminServer

	admins    policy.Policy
	logs      Logs
	startSpec string
	log       *flog.Logger
}

// New returns a Server. The log specification in force now is the one that
// RevertLogLevels restores.
func New(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	admins, err := policy.NewSignaturePolicy(policy.SignedByMSPAdmin(cfg.LocalMSPID), cfg.Local, cfg.Log.Named("policies"))
	if err != nil {
		return nil, fmt.Errorf("make the policy of administrators: %w", err)
	}
	return &Server{admins: admins, logs: cfg.Logs, startSpec: cfg.Logs.Spec(), log: cfg.Log.Named("server")}, nil
}

// GetStatus says that the peer runs.
func (s *Server) GetStatus(ctx context.Context, env *common.Envelope) (*pb.ServerStatus, error) {
	return s.started(ctx, env)
}

// StartServer starts nothing: the peer runs.
func (s *Server) StartServer(ctx context.Context, env *common.Envelope) (*pb.ServerStatus, error) {
	return s.started(ctx, env)
}

func (s *Server) started(ctx context.Context, env *common.Envelope) (*pb.ServerStatus, error) {
	if _, err := s.authorize(ctx, env); err != nil {
		return nil, err
	}
	return &pb.ServerStatus{Status: pb.ServerStatus_STARTED}, nil
}

// GetModuleLogLevel gives the level in force for a logger.
func (s *Server) GetModuleLogLevel(ctx context.Context, env *common.Envelope) (*pb.LogLevelResponse, error) {
	req, err := s.levelRequest(ctx, env)
	if err != nil {
		return nil, err
	}
	level := strings.ToUpper(s.logs.Level(req.LogModule).String())
	return &pb.LogLevelResponse{LogModule: req.LogModule, LogLevel: level}, nil
}

// SetModuleLogLevel adds an assignment to the log specification.
func (s *Server) SetModuleLogLevel(ctx context.Context, env *common.Envelope) (*pb.LogLevelResponse, error) {
	req, err := s.levelRequest(ctx, env)
	if err != nil {
		return nil, err
	}
	spec := fmt.Sprintf("%s:%s=%s", s.logs.Spec(), req.LogModule, req.LogLevel)
	if err := s.logs.ActivateSpec(spec); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "error setting log spec to '%s': %s", spec, err)
	}
	return &pb.LogLevelResponse{LogModule: req.LogModule, LogLevel: strings.ToUpper(req.LogLevel)}, nil
}

func (s *Server) levelRequest(ctx context.Context, env *common.Envelope) (*pb.LogLevelRequest, error) {
	op, err := s.authorize(ctx, env)
	if err != nil {
		return nil, err
	}
	req := op.GetLogReq()
	if req == nil {
		return nil, errNilRequest
	}
	return req, nil
}

// RevertLogLevels restores the log specification of the start.
func (s *Server) RevertLogLevels(ctx context.Context, env *common.Envelope) (*emptypb.Empty, error) {
	if _, err := s.authorize(ctx, env); err != nil {
		return nil, err
	}
	if err := s.logs.ActivateSpec(s.startSpec); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// GetLogSpec gives the log specification in force.
func (s *Server) GetLogSpec(ctx context.Context, env *common.Envelope) (*pb.LogSpecResponse, error) {
	if _, err := s.authorize(ctx, env); err != nil {
		return nil, err
	}
	return &pb.LogSpecResponse{LogSpec: s.logs.Spec()}, nil
}

// SetLogSpec activates a log specification. A bad one is told in the response.
func (s *Server) SetLogSpec(ctx context.Context, env *common.Envelope) (*pb.LogSpecResponse, error) {
	op, err := s.authorize(ctx, env)
	if err != nil {
		return nil, err
	}
	req := op.GetLogSpecReq()
	if req == nil {
		return nil, errNilRequest
	}
	out := &pb.LogSpecResponse{LogSpec: req.LogSpec}
	if err := s.logs.ActivateSpec(req.LogSpec); err != nil {
		out.Error = err.Error()
	}
	return out, nil
}

// authorize makes the checks of ENDORSE-VALIDATE §12 in their order and returns
// the operation asked for.
func (s *Server) authorize(ctx context.Context, env *common.Envelope) (*pb.AdminOperation, error) {
	if env == nil {
		return nil, errors.New("nil envelope")
	}
	ch, op, err := open(env)
	if err != nil {
		return nil, fmt.Errorf("bad request: %w", err)
	}
	if ch.Timestamp == nil {
		return nil, errors.New("empty timestamp")
	}
	if off := time.Since(ch.Timestamp.AsTime()).Abs(); off > timeWindow {
		s.log.Warningf("Request from %s unauthorized due to its timestamp, which is %s off", rpc.PeerAddress(ctx), off)
		return nil, errDenied
	}
	signed, err := policy.EnvelopeSignedData(env)
	if err != nil {
		return nil, fmt.Errorf("bad request, cannot extract signed data: %w", err)
	}
	if err := s.admins.Evaluate(signed); err != nil {
		s.log.Warningf("Request from %s unauthorized due to authentication: %s", rpc.PeerAddress(ctx), err)
		return nil, errDenied
	}
	return op, nil
}

func open(env *common.Envelope) (*common.ChannelHeader, *pb.AdminOperation, error) {
	payload := &common.Payload{}
	if err := proto.Unmarshal(env.Payload, payload); err != nil {
		return nil, nil, fmt.Errorf("error unmarshaling Payload: %w", err)
	}
	if payload.Header == nil {
		return nil, nil, errors.New("envelope must have a Header")
	}
	ch := &common.ChannelHeader{}
	if err := proto.Unmarshal(payload.Header.ChannelHeader, ch); err != nil {
		return nil, nil, fmt.Errorf("error unmarshaling ChannelHeader: %w", err)
	}
	if ch.Type != HeaderType {
		return nil, nil, fmt.Errorf("invalid type %s, expected PEER_ADMIN_OPERATION", common.HeaderType(ch.Type))
	}
	op := &pb.AdminOperation{}
	if err := proto.Unmarshal(payload.Data, op); err != nil {
		return nil, nil, fmt.Errorf("error unmarshaling message for type PEER_ADMIN_OPERATION: %w", err)
	}
	return ch, op, nil
}
