package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

// race runs two writes at the same moment, and gives their errors.
func race(a, b func() error) (errA, errB error) {
	var wait sync.WaitGroup
	start := make(chan struct{})
	wait.Go(func() { <-start; errA = a() })
	wait.Go(func() { <-start; errB = b() })
	close(start)
	wait.Wait()
	return errA, errB
}

// requireOneWins runs two writes at the same moment, checks that one went in, and
// gives the other's error.
func requireOneWins(t *testing.T, a, b func() error) error {
	t.Helper()
	errA, errB := race(a, b)
	require.NotEqual(t, errA == nil, errB == nil, "one wins: %v, %v", errA, errB)
	return errors.Join(errA, errB)
}

const rounds = 15

func TestTwoWritersMakeNoCycle(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i := range rounds {
		a, b := policies.GroupID(fmt.Sprintf("a-%d", i)), policies.GroupID(fmt.Sprintf("b-%d", i))
		f.group(a, nil)
		f.group(b, nil)
		put := func(id, parent policies.GroupID) func() error {
			return func() error {
				_, err := f.PutGroup(t.Context(), call(), owner, policies.Group{ID: id, Name: string(id), Parent: &parent, Color: "#000000"})
				return err
			}
		}
		requireField(t, requireOneWins(t, put(a, b), put(b, a)), "parent")
	}
	requireSound(t, f.Store)
}

func TestTwoInvitationsToOneAddress(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i := range rounds {
		invite := func(email string) func() error {
			return func() error {
				_, err := f.Invite(t.Context(), call(), owner, store.Invitation{Email: fmt.Sprintf(email, i)})
				return err
			}
		}
		requireState(t, requireOneWins(t, invite("x%d@example.com"), invite("X%d@Example.COM")), policies.StatusPending, policies.EventInvite)
	}
	requireSound(t, f.Store)
}

func TestRacesForIDsAndAddresses(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i := range rounds {
		group := func(o policies.AccountID) func() error {
			return func() error {
				_, err := f.PutGroup(t.Context(), call(), o, policies.Group{ID: policies.GroupID(fmt.Sprintf("raced-%d", i)), Name: fmt.Sprint("n", i), Color: "#000000"})
				return err
			}
		}
		requireTaken(t, requireOneWins(t, group(owner), group("other")), "id")
		account := func(id policies.AccountID) func() error {
			return func() error {
				_, err := f.PutAccount(t.Context(), call(), policies.Account{ID: id, Email: fmt.Sprintf("raced%d@example.com", i)})
				return err
			}
		}
		requireTaken(t, requireOneWins(t, account(policies.AccountID(fmt.Sprint("r1-", i))), account(policies.AccountID(fmt.Sprint("r2-", i)))), "email")
		role := func() error {
			_, err := f.CreateRole(t.Context(), call(), owner, policies.Role{Name: fmt.Sprint("Raced ", i)})
			return err
		}
		requireTaken(t, requireOneWins(t, role, role), "name")
	}
	requireSound(t, f.Store)
}

func TestRacesInTheLifeOfACollaboration(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	var id policies.CollaborationID
	accept := func() error {
		_, err := f.Accept(ctx, call(), store.Acceptor{Account: policies.Account{ID: "mia"}}, id)
		return err
	}
	reject := func() error { _, err := f.Reject(ctx, call(), "mia", id); return err }
	leave := func() error { _, err := f.Leave(ctx, call(), "mia", id); return err }
	remove := func() error { _, err := f.RemoveMember(ctx, call(), owner, id); return err }
	suspend := func() error { _, err := f.Suspend(ctx, call(), owner, id); return err }
	for range rounds {
		id = f.invite("mia@example.com")
		var state *policies.StateError
		require.ErrorAs(t, requireOneWins(t, accept, accept), &state)
		requireState(t, state, policies.StatusActive, policies.EventAccept)
		// Suspend then leave both go; leave then suspend does not.
		if errA, errB := race(suspend, leave); errA != nil {
			requireState(t, errA, policies.StatusLeft, policies.EventSuspend)
			require.NoError(t, errB)
		} else {
			require.NoError(t, errB)
		}
		require.Equal(t, policies.StatusLeft, f.get(id).Status)
		require.NoError(t, remove())

		id = f.invite("mia@example.com")
		if errA, errB := race(accept, remove); errA != nil {
			requireState(t, errA, policies.StatusRemoved, policies.EventAccept)
			require.NoError(t, errB)
		} else {
			require.NoError(t, errB, "an active one can be removed")
		}
		require.Equal(t, policies.StatusRemoved, f.get(id).Status)

		id = f.invite("mia@example.com")
		require.ErrorAs(t, requireOneWins(t, accept, reject), &state)
		require.NoError(t, remove())
	}
	requireSound(t, f.Store)
}

// An address changes hands while its invitation is accepted: who accepts is whoever
// has it at that moment, and nobody else ever.
func TestAcceptWhileTheAddressMoves(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx := t.Context()
	for i := range rounds {
		from, to := policies.AccountID(fmt.Sprint("from-", i)), policies.AccountID(fmt.Sprint("to-", i))
		email := fmt.Sprintf("moving%d@example.com", i)
		f.account(from, email)
		f.account(to, fmt.Sprintf("to%d@example.com", i))
		id := f.invite(email)
		accepted, moved := race(
			func() error {
				_, err := f.Accept(ctx, call(), store.Acceptor{Account: policies.Account{ID: from}}, id)
				return err
			},
			func() error {
				_, err := f.PutAccount(ctx, call(), policies.Account{ID: from, Email: fmt.Sprintf("from%d@example.com", i)})
				return err
			})
		require.NoError(t, moved)
		f.account(to, email)
		if accepted == nil {
			require.Equal(t, &from, f.get(id).Account, "bound")
			continue
		}
		requireNotFound(t, accepted, "collaboration")
		require.Equal(t, &to, f.get(id).Account)
	}
	requireSound(t, f.Store)
}

// Sixteen writers: each change has a number, without gaps; a write that began after
// another had ended has the greater one; and the chain holds.
func TestRevisionsAreInCommitOrder(t *testing.T) {
	t.Parallel()
	const writers, writes = 16, 25
	s := storetest.New(t, store.Options{})
	type span struct {
		begin, end time.Time
		revision   policies.Revision
	}
	spans := make([][]span, writers)
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for i := range writes {
				begin := time.Now()
				r, err := s.PutAccount(t.Context(), call(), policies.Account{
					ID: policies.AccountID(fmt.Sprintf("account-%d", w)), Email: fmt.Sprintf("a%d@example.com", w), DisplayName: fmt.Sprint(i),
				})
				if err != nil {
					t.Error(err)
					return
				}
				spans[w] = append(spans[w], span{begin, time.Now(), r.Revision})
			}
		})
	}
	wait.Wait()
	all := slices.Concat(spans...)
	require.Len(t, all, writers*writes)
	slices.SortFunc(all, func(a, b span) int { return int(a.revision) - int(b.revision) })
	for i, x := range all {
		require.Equal(t, policies.Revision(i+2), x.revision)
		for _, later := range all[i+1:] {
			require.False(t, later.end.Before(x.begin), "revision %d ended before %d began", later.revision, x.revision)
		}
	}
	requireSound(t, s)
}

// Imports at the same time as each other and as writers: each document is wholly in
// or out, and everything stays sound.
func TestImportsRace(t *testing.T) {
	t.Parallel()
	const owners = 12
	s := storetest.New(t, store.Options{})
	documents := make([]policies.Document, 0, owners)
	for i := range owners {
		documents = append(documents, standardDocument(i, 100))
	}
	var wait sync.WaitGroup
	for w := range 4 {
		wait.Go(func() {
			order := slices.Clone(documents)
			if w%2 == 1 {
				slices.Reverse(order)
			}
			for range 2 {
				report, err := s.Import(t.Context(), call(), lines(order...), nil)
				if err != nil || report.Errors != nil || report.Imported != owners {
					t.Errorf("import: %+v, %v", report, err)
				}
			}
		})
	}
	wait.Go(func() {
		for i := range 30 {
			id := policies.AccountID(fmt.Sprintf("account-%d", i%owners))
			if _, err := s.PutAccount(t.Context(), call(), policies.Account{ID: id, Email: fmt.Sprintf("account%d@example.com", i%owners), DisplayName: "x"}); err != nil {
				t.Error(err)
			}
		}
	})
	wait.Wait()
	requireSound(t, s)
}
