package msgproc

import "errors"

// Root causes by which Broadcast chooses the status of a refusal (ORDERER §5.1);
// every other error is a BAD_REQUEST. The texts reach the client.
var (
	// ErrChannelDoesNotExist: NOT_FOUND.
	ErrChannelDoesNotExist = errors.New("channel does not exist")
	// ErrPermissionDenied: FORBIDDEN.
	ErrPermissionDenied = errors.New("permission denied")
	// ErrMaintenanceMode: SERVICE_UNAVAILABLE.
	ErrMaintenanceMode = errors.New("maintenance mode")
)

// ErrNotDirect is returned for messages that only the orderer itself makes.
var ErrNotDirect = errors.New("message is of type that cannot be processed directly")
