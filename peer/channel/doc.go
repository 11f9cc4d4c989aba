// Package channel is what a peer does with the channels it has joined: join and
// open them, and take every block from its arrival to the ledger —
// verify, validate, commit, apply configuration, publish (DESIGN §4 c).
//
// State owned: a Registry of Channels; each Channel owns its current
// configuration (a *chanconfig.Bundle, replaced as a whole), its inbox and its
// pipeline. The state of commit itself is nothing but what the ledger holds, so
// the process may die at any moment.
//
// Goroutines: per channel the three stages of the pipeline and the block puller,
// all below Registry.Run. The composition root and the rooms of peer/** import
// it.
package channel
