package policiestest

import "math/rand/v2"

// Dice decide what a random world is like. Not safe for concurrent use.
type Dice interface {
	// Roll is a number from 0 to n-1.
	Roll(n int) int
}

// SeededDice always fall in the same way for one seed.
func SeededDice(seed uint64) Dice {
	return seeded{rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // tests need the same world again, not a secret
}

type seeded struct{ r *rand.Rand }

func (s seeded) Roll(n int) int { return s.r.IntN(n) }

// chance is true once in n rolls.
func chance(d Dice, n int) bool { return d.Roll(n) == 0 }

func pick[T any](d Dice, list []T) T { return list[d.Roll(len(list))] }

// some are up to n of list, in its order, each at most once.
func some[T any](d Dice, list []T, n int) []T {
	chosen := []T{}
	if len(list) == 0 {
		return chosen
	}
	taken := map[int]bool{}
	for range d.Roll(n + 1) {
		taken[d.Roll(len(list))] = true
	}
	for i, x := range list {
		if taken[i] {
			chosen = append(chosen, x)
		}
	}
	return chosen
}
