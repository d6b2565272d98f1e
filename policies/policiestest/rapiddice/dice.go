// Package rapiddice is policiestest's dice for tests by rapid, in a package of its own:
// usher bench asks what policiestest makes, and has no library for tests in it.
package rapiddice

import (
	"pgregory.net/rapid"

	"github.com/usher-authz/usher/policies/policiestest"
)

// New makes dice that fall as rapid says, so that it can shrink what failed.
func New(t *rapid.T) policiestest.Dice { return dice{t} }

type dice struct{ t *rapid.T }

func (d dice) Roll(n int) int { return rapid.IntRange(0, n-1).Draw(d.t, "roll") }
