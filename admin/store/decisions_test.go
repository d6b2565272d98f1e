package store_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/admin/store/storetest"
	"github.com/usher-authz/usher/policies"
)

func loggedAt(at time.Time, id, subject, action, environment string, outcome store.Outcome) store.Logged {
	return store.Logged{
		ID: id, At: at, Instance: "i", Path: "usher/authz/decision", Subject: subject, Action: action, ResourceType: "environment", ResourceID: environment,
		Outcome: outcome, Reason: "granted", Revision: new(policies.Revision(7)), Event: jsontext.Value(`{"decision_id":"` + id + `"}`),
	}
}

func ids(l store.List[store.Logged]) string {
	var all []string
	for _, d := range l.Items {
		all = append(all, d.ID)
	}
	return strings.Join(all, " ")
}

// Decisions are found by all that they are searched by, page by page, and go with
// their day.
func TestDecisions(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := storetest.New(t, store.Options{Clock: c.Now})
	now := c.Now()
	one := loggedAt(now, "d1", "mia", "a.Start", "e1", store.OutcomeAllow)
	_, err := s.LogDecisions(t.Context(), []store.Logged{one})
	var unavailable *store.UnavailableError
	require.ErrorAs(t, err, &unavailable, "there is no partition yet")

	const retention = 3 * 24 * time.Hour
	var keepers sync.WaitGroup
	for range 8 {
		keepers.Go(func() { require.NoError(t, s.KeepDecisions(t.Context(), retention)) })
	}
	keepers.Wait()
	all := []store.Logged{
		one, loggedAt(now.Add(-time.Second), "d2", "mia", "a.Stop", "e1", store.OutcomeDeny),
		loggedAt(now.Add(-25*time.Hour), "d3", "max", "a.Start", "e2", store.OutcomeDeny),
		loggedAt(now.Add(-time.Second), "d4", "max", "a.Stop", "e2", store.OutcomeNone),
		loggedAt(now.Add(1000*time.Hour), "d5", "mia", "a.Start", "e2", store.OutcomeAllow), // a clock that is wrong
		loggedAt(now.Add(-1000*time.Hour), "old", "mia", "a.Start", "e1", store.OutcomeAllow),
	}
	fresh, err := s.LogDecisions(t.Context(), all)
	require.NoError(t, err)
	require.Equal(t, 5, fresh)
	fresh, err = s.LogDecisions(t.Context(), all[:4]) // sent again
	require.NoError(t, err)
	require.Zero(t, fresh)

	for _, test := range []struct {
		filter store.DecisionFilter
		want   string
	}{
		{store.DecisionFilter{}, "d5 d1 d4 d2 d3"},
		{store.DecisionFilter{Subject: "mia"}, "d5 d1 d2"},
		{store.DecisionFilter{Subject: "mia", Action: "a.Start"}, "d5 d1"},
		{store.DecisionFilter{Subject: "mia", Resource: policies.Resource{Type: "environment", ID: "e1"}, Outcome: store.OutcomeDeny}, "d2"},
		{store.DecisionFilter{Resource: policies.Resource{Type: "environment", ID: "e2"}}, "d5 d4 d3"},
		{store.DecisionFilter{Resource: policies.Resource{Type: "environment", ID: "e2"}, Action: "a.Stop"}, "d4"},
		{store.DecisionFilter{Action: "a.Stop"}, "d4 d2"},
		{store.DecisionFilter{Outcome: store.OutcomeDeny}, "d2 d3"},
		{store.DecisionFilter{Outcome: store.OutcomeDeny, Reason: "owner"}, ""},
		{store.DecisionFilter{Outcome: store.OutcomeNone}, "d4"},
		{store.DecisionFilter{Since: now.Add(-time.Hour)}, "d5 d1 d4 d2"},
		{store.DecisionFilter{Until: now}, "d4 d2 d3"},
		{store.DecisionFilter{Subject: "nobody"}, ""},
	} {
		list, err := s.Decisions(t.Context(), test.filter, store.Page{})
		require.NoError(t, err)
		require.Equal(t, test.want, ids(list), "%+v", test.filter)
		// The same, one at a time.
		var paged []string
		for page := (store.Page{Limit: 1}); ; page.Cursor = list.NextCursor {
			list, err = s.Decisions(t.Context(), test.filter, page)
			require.NoError(t, err)
			paged = append(paged, strings.Fields(ids(list))...)
			if list.NextCursor == "" {
				break
			}
		}
		require.Equal(t, test.want, strings.Join(paged, " "), "%+v", test.filter)
	}
	list, err := s.Decisions(t.Context(), store.DecisionFilter{}, store.Page{Limit: 1})
	require.NoError(t, err)
	_, err = s.Decisions(t.Context(), store.DecisionFilter{Subject: "mia"}, store.Page{Cursor: list.NextCursor})
	var cursor *store.CursorError
	require.ErrorAs(t, err, &cursor)

	found, err := s.Decision(t.Context(), "d2")
	require.NoError(t, err)
	want := all[1]
	want.ReceivedAt = policies.NormalizeTime(now)
	want.At = policies.NormalizeTime(want.At)
	want.Place = 2
	require.Equal(t, want, found)
	_, err = s.Decision(t.Context(), "old")
	requireNotFound(t, err, "decision")

	// The day of d3 ends with its retention; the rest stays.
	c.Advance(2 * 24 * time.Hour)
	require.NoError(t, s.KeepDecisions(t.Context(), retention))
	list, err = s.Decisions(t.Context(), store.DecisionFilter{}, store.Page{})
	require.NoError(t, err)
	require.Equal(t, "d5 d1 d4 d2 d3", ids(list))
	c.Advance(24 * time.Hour)
	require.NoError(t, s.KeepDecisions(t.Context(), retention))
	list, err = s.Decisions(t.Context(), store.DecisionFilter{}, store.Page{})
	require.NoError(t, err)
	require.Equal(t, "d5 d1 d4 d2", ids(list))
}

// The role of `usher admin` has its partitions made and dropped, and can do no more.
func TestDecisionsOfALimitedRole(t *testing.T) {
	t.Parallel()
	superuser := storetest.URL(t)
	database, err := url.Parse(superuser)
	require.NoError(t, err)
	role := "keeper" + database.Path[1:]
	run(t, superuser, "create role "+role+" login password 'secret'")
	_, err = store.Migrate(t.Context(), superuser, inForce(t), t.Output(), store.MigrateOptions{GrantTo: role})
	require.NoError(t, err)
	database.User = url.UserPassword(role, "secret")
	c := newClock()
	s := storetest.New(t, store.Options{URL: database.String(), Clock: c.Now})
	for range 3 {
		require.NoError(t, s.KeepDecisions(t.Context(), 24*time.Hour))
		fresh, err := s.LogDecisions(t.Context(), []store.Logged{loggedAt(c.Now(), fmt.Sprint("d", c.Now().Unix()), "mia", "a", "e", store.OutcomeAllow)})
		require.NoError(t, err)
		require.Equal(t, 1, fresh)
		c.Advance(48 * time.Hour)
	}
	list, err := s.Decisions(t.Context(), store.DecisionFilter{}, store.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	require.NoError(t, s.PutOPAStatus(t.Context(), store.OPAStatus{Instance: "i", Body: jsontext.Value(`{}`)}))
	conn, err := pgx.Connect(t.Context(), database.String())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	for _, sql := range []string{"update decisions set reason = ''", "delete from decisions", "drop table decisions"} {
		_, err := conn.Exec(t.Context(), sql)
		require.Error(t, err, sql)
	}
}

func TestOPAStatuses(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := storetest.New(t, store.Options{Clock: c.Now})
	put := func(instance, revision string) {
		require.NoError(t, s.PutOPAStatus(t.Context(), store.OPAStatus{Instance: instance, Revision: revision, Body: jsontext.Value(`{}`)}))
	}
	put("b", "1")
	c.Advance(12 * time.Hour)
	put("a", "1")
	put("a", "2")
	list, err := s.OPAStatuses(t.Context(), store.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, []store.OPAStatus{{Instance: "a", ReceivedAt: policies.NormalizeTime(c.Now()), Revision: "2", Body: jsontext.Value(`{}`)}}, list.Items)
	list, err = s.OPAStatuses(t.Context(), store.Page{Cursor: list.NextCursor})
	require.NoError(t, err)
	require.Equal(t, "b", list.Items[0].Instance)
	c.Advance(13 * time.Hour) // b has been silent for more than a day
	require.NoError(t, s.KeepDecisions(t.Context(), 24*time.Hour))
	list, err = s.OPAStatuses(t.Context(), store.Page{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
}

// Those who follow get each decision once, in the order in which they came in, however
// late it is by its own time, and however many write at once.
func TestDecisionsReceived(t *testing.T) {
	t.Parallel()
	c := newClock()
	url := storetest.URL(t)
	s := storetest.New(t, store.Options{URL: url, Clock: c.Now})
	require.NoError(t, s.KeepDecisions(t.Context(), 3*24*time.Hour))
	place, err := s.LastPlace(t.Context())
	require.NoError(t, err)
	require.Zero(t, place)
	upload := func(all ...store.Logged) {
		t.Helper()
		fresh, err := s.LogDecisions(t.Context(), all)
		require.NoError(t, err)
		require.Equal(t, len(all), fresh)
	}
	received := func(f store.DecisionFilter, after int64, limit int) (string, int64) {
		t.Helper()
		last, err := s.LastPlace(t.Context())
		require.NoError(t, err)
		found, place, err := s.DecisionsReceived(t.Context(), f, after, last, limit)
		require.NoError(t, err)
		require.LessOrEqual(t, place, last)
		return ids(store.List[store.Logged]{Items: found}), place
	}
	now := c.Now()
	upload(loggedAt(now, "d1", "mia", "a.Start", "e1", store.OutcomeAllow))
	upload(loggedAt(now.Add(-50*time.Hour), "late", "mia", "a.Stop", "e1", store.OutcomeDeny), loggedAt(now.Add(-time.Hour), "d2", "max", "a.Start", "e2", store.OutcomeDeny))
	found, place := received(store.DecisionFilter{}, 0, 100)
	require.Equal(t, "d1 late d2", found)
	found, first := received(store.DecisionFilter{}, 0, 1)
	require.Equal(t, "d1", found)
	require.Less(t, first, place)
	found, _ = received(store.DecisionFilter{}, first, 100)
	require.Equal(t, "late d2", found)
	again, _ := s.LogDecisions(t.Context(), []store.Logged{loggedAt(now, "d1", "mia", "a.Start", "e1", store.OutcomeAllow)})
	require.Zero(t, again, "sent again")
	found, place = received(store.DecisionFilter{}, place, 100)
	require.Empty(t, found)
	upload(loggedAt(now.Add(-time.Minute), "d3", "mia", "a.Start", "e3", store.OutcomeAllow))
	found, _ = received(store.DecisionFilter{}, place, 100)
	require.Equal(t, "d3", found)
	for _, test := range []struct {
		filter store.DecisionFilter
		want   string
	}{
		{store.DecisionFilter{Subject: "mia"}, "d1 late d3"},
		{store.DecisionFilter{Action: "a.Start"}, "d1 d2 d3"},
		{store.DecisionFilter{Resource: policies.Resource{Type: "environment", ID: "e1"}}, "d1 late"},
		{store.DecisionFilter{Outcome: store.OutcomeDeny}, "late d2"},
		{store.DecisionFilter{Reason: "granted", Since: now.Add(-2 * time.Hour), Until: now}, "d2 d3"},
	} {
		found, _ = received(test.filter, 0, 100)
		require.Equal(t, test.want, found, "%+v", test.filter)
	}

	place = 0
	for _, d := range []string{"d1", "late", "d2", "d3"} {
		found, place = received(store.DecisionFilter{}, place, 1)
		require.Equal(t, d, found)
	}

	// One whose place is taken and that does not come to its end holds up those who look,
	// so that it is not passed over.
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	slow, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = slow.Exec(t.Context(), `insert into decisions (at, id, received_at, instance, path, subject, action, resource_type, resource_id, outcome, reason, event)
values ($1, 'slow', $1, '', '', '', '', '', '', 'none', '', '{}')`, now)
	require.NoError(t, err)
	upload(loggedAt(now, "quick", "mia", "a.Start", "e1", store.OutcomeAllow))
	looked := make(chan string, 1)
	go func() {
		last, err := s.LastPlace(context.WithoutCancel(t.Context()))
		if err != nil {
			looked <- err.Error()
			return
		}
		found, _, err := s.DecisionsReceived(context.WithoutCancel(t.Context()), store.DecisionFilter{}, place, last, 100)
		looked <- fmt.Sprint(ids(store.List[store.Logged]{Items: found}), err)
	}()
	require.Eventually(t, func() bool {
		var waits bool
		err := slow.QueryRow(t.Context(), `select exists (select from pg_locks where locktype = 'advisory' and not granted
    and database = (select oid from pg_database where datname = current_database()))`).Scan(&waits)
		return err == nil && waits
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, slow.Commit(t.Context()))
	require.Equal(t, "slow quick<nil>", <-looked)

	// One that never comes to its end is given up on: others must be able to write.
	slow, err = conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = slow.Exec(t.Context(), `select pg_advisory_xact_lock_shared(hashtext('usher decisions received'))`)
	require.NoError(t, err)
	_, err = s.LastPlace(t.Context())
	var gaveUp *store.UnavailableError
	require.ErrorAs(t, err, &gaveUp)
	require.NoError(t, slow.Rollback(t.Context()))

	// Many at once, followed meanwhile.
	_, place = received(store.DecisionFilter{}, 0, 1000)
	const writers, each = 8, 20
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				_, err := s.LogDecisions(t.Context(), []store.Logged{
					loggedAt(now.Add(-time.Duration(i)*time.Minute), fmt.Sprintf("m%d-%d", w, i), "mia", "a.Start", "e1", store.OutcomeAllow),
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		writing.Wait()
		close(ended)
	}()
	seen := map[string]int{}
	for over := false; !over; {
		select {
		case <-ended:
			over = true
		default:
		}
		found, next := received(store.DecisionFilter{}, place, 1000)
		for id := range strings.FieldsSeq(found) {
			seen[id]++
		}
		place = next
	}
	require.Len(t, seen, writers*each)
	for id, n := range seen {
		require.Equal(t, 1, n, id)
	}
}
