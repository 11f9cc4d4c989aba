package audit

import "fmt"

// Result of a check.
type Result string

// Results.
const (
	OK      Result = "ok"
	Failed  Result = "damaged"
	Noted   Result = "see findings" // nothing damaged, but something to be said
	Skipped Result = "skipped"
)

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"name"`
	Result Result `json:"result"`
	// Detail says how much was looked at, or why it was not.
	Detail string `json:"detail,omitempty"`
}

// Channel is what was found out about one channel.
type Channel struct {
	ID string `json:"channel"`
	// Blocks and Transactions are what could be read; Height is the number of
	// blocks that the files end with.
	Blocks       uint64    `json:"blocks"`
	Height       uint64    `json:"height"`
	Transactions uint64    `json:"transactions"`
	LastHash     string    `json:"last_block_hash,omitempty"`
	CommitHash   string    `json:"last_commit_hash,omitempty"`
	Bytes        int64     `json:"bytes"` // of the block files
	Checks       []Check   `json:"checks"`
	Findings     []Finding `json:"findings"`
	Sound        bool      `json:"sound"`
}

func (c *Channel) check(name string, r Result, format string, args ...any) {
	c.Checks = append(c.Checks, Check{Name: name, Result: r, Detail: fmt.Sprintf(format, args...)})
}

// Report is what Verify found out about a directory.
type Report struct {
	Path     string     `json:"path"`
	Kind     Kind       `json:"kind"`
	Channels []*Channel `json:"channels"`
	// Findings are about the directory as a whole.
	Findings []Finding `json:"findings"`
	Sound    bool      `json:"sound"`
}
