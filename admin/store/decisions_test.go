package store_test

import (
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
