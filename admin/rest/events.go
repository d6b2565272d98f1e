package rest

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/usher-authz/usher/admin/difference"
	"github.com/usher-authz/usher/admin/events"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

const (
	// maxFollowers bounds the connections of one process.
	maxFollowers = 2000
	// eventsBatch is how many entries are read and written at once.
	eventsBatch = 100
	// maxAccessPairs bounds what one access event is made from.
	maxAccessPairs = 20_000
)

// The names of events.
const (
	eventReady  = "ready"
	eventReset  = "reset"
	eventChange = "change"
	eventAccess = "access"
)

type eventsPath struct {
	AccountPath
	LastEvent
}

// changeEvent is what changed. Members get neither before nor after.
type changeEvent struct {
	Revision policies.Revision `json:"revision"`
	Time     time.Time         `json:"time"`
	Action   string            `json:"action"`
	Resource auditResource     `json:"resource"`
	Before   anyJSON           `json:"before,omitzero"`
	After    anyJSON           `json:"after,omitzero"`
}

// accessEvent is what the caller gained and lost by a change. Truncated says that
// there is more than is told: ask again for what is shown.
type accessEvent struct {
	Revision  policies.Revision  `json:"revision"`
	Resource  policies.Resource  `json:"resource,omitzero"`
	Gained    difference.Actions `json:"gained,omitzero"`
	Lost      difference.Actions `json:"lost,omitzero"`
	Truncated bool               `json:"truncated,omitzero"`
}

type placeEvent struct {
	Revision policies.Revision `json:"revision"`
}

func (a *API) eventOperations() {
	description := "Server-sent events: `ready` first, with the revision that the stream begins after; `change` for each object that changed; `reset` where " +
		"the log cannot go on from Last-Event-ID: read everything again. Ids are places in the log."
	register(a, spec{
		id: "follow-account", method: http.MethodGet, read: true, path: "/accounts/{account}/events", tag: tagAudit, summary: "Follow what changes in an account",
		description: description + " The owner and services see all changes of the account, a member those of its own collaboration and grants, " +
			"of items and roles that it has, and by `access` which actions it gained and lost while it listens.",
		scope: policies.ScopeCollaboration, who: whoMembers,
		right: "what changes for itself.",
		media: []string{mediaEvents}, errors: []int{http.StatusUnprocessableEntity},
	}, a.followAccount)
	register(a, spec{
		id: "follow-platform", method: http.MethodGet, read: true, path: "/events", tag: tagAudit, summary: "Follow what changes on the platform",
		description: description + " A `change` is an item of the audit.",
		scope:       policies.ScopeAudit, who: whoServices, media: []string{mediaEvents},
	}, a.followPlatform)
}

func (a *API) followAccount(ctx context.Context, r *request, p *eventsPath, _ *none) (*stream, error) {
	f := &follower{eventStream: eventStream{api: a, r: r}, owner: p.Account}
	if account := r.caller.account(); !r.caller.mayEverything(p.Account) {
		f.member = account
	} else if _, err := a.store.GetAccount(ctx, p.Account); err != nil {
		return nil, err
	}
	return f.open(ctx, p.LastEventID)
}

func (a *API) followPlatform(ctx context.Context, r *request, p *LastEvent, _ *none) (*stream, error) {
	return (&follower{eventStream: eventStream{api: a, r: r}, platform: true}).open(ctx, p.LastEventID)
}

// follower is one connection.
type follower struct {
	eventStream

	owner    policies.AccountID
	platform bool
	member   policies.AccountID // the caller, if it is no more than a member
	place    store.Position     // of the last entry that was looked at
	state    *authz.State       // for access: the one that the caller knows
}

// open answers with the stream, or with why there is none.
func (f *follower) open(ctx context.Context, last string) (*stream, error) {
	if err := f.allowed(ctx); err != nil {
		return nil, err
	}
	if err := f.api.fresh(ctx); err != nil {
		return nil, err
	}
	f.state = f.api.engine.State()
	begin := eventReady
	f.place = store.Position{Revision: f.state.Revision(), Ordinal: maxOrdinal}
	if last != "" {
		place, ok, err := f.resume(ctx, last)
		if err != nil {
			return nil, err
		}
		if begin = eventReset; ok {
			begin, f.place = eventReady, place
		}
	}
	return f.stream(f.api.followers, func() { f.run(ctx, begin) })
}

// maxOrdinal is after every entry of a revision.
const maxOrdinal = 1<<31 - 1

// resume finds the place that an id names; not, if the log does not have it.
func (f *follower) resume(ctx context.Context, id string) (place store.Position, ok bool, err error) {
	number, ordinal, _ := strings.Cut(id, ".")
	revision, err := policies.ParseRevision(number)
	if err != nil {
		return place, false, nil //nolint:nilerr // an id that was never ours is a place that is not there
	}
	place = store.Position{Revision: revision, Ordinal: maxOrdinal}
	if ordinal != "" {
		if place.Ordinal, err = strconv.Atoi(ordinal); err != nil {
			return place, false, nil //nolint:nilerr // as above
		}
	}
	if revision > f.state.Revision() {
		return place, false, nil
	}
	_, ok, err = f.api.store.RevisionHash(ctx, revision)
	return place, ok, err
}

// allowed tells whether the caller may follow, now: it is asked again and again.
func (f *follower) allowed(ctx context.Context) error {
	if err := f.authenticated(ctx); err != nil || f.member == "" {
		return err
	}
	// Whoever is refused with 403 knows the account by a collaboration.
	err := f.api.refuse(ctx, f.member, f.owner)
	var known *policies.ForbiddenError
	if errors.As(err, &known) {
		return nil
	}
	return err
}

// run writes until the caller goes away, is too slow, or may no longer.
func (f *follower) run(ctx context.Context, begin string) {
	woken := f.api.hub.Follow(f.owner, f.state.Revision())
	defer woken.End()
	heartbeat := time.NewTicker(heartbeatInterval)
	defer heartbeat.Stop()
	first := &bytes.Buffer{}
	f.event(first, begin, f.place, placeEvent{f.place.Revision})
	if f.write(first) != nil {
		return
	}
	for {
		if err := f.drain(ctx); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-woken.Woken():
		case <-heartbeat.C:
			if f.write(alive()) != nil {
				return
			}
		}
		if f.allowed(ctx) != nil {
			return
		}
	}
}

// drain writes what is new, up to the engine's revision.
func (f *follower) drain(ctx context.Context) error {
	state := f.api.engine.State()
	for {
		entries, err := f.api.store.EntriesAfter(ctx, store.AuditFilter{Owner: f.owner}, f.place, eventsBatch)
		if err != nil {
			return err
		}
		out := &bytes.Buffer{}
		ahead := false
		for _, e := range entries {
			if ahead = e.Revision > state.Revision(); ahead {
				break
			}
			f.place = store.Position{Revision: e.Revision, Ordinal: e.Ordinal}
			if view, ok := f.view(ctx, state, e); ok {
				f.event(out, eventChange, f.place, view)
			}
		}
		if out.Len() > 0 {
			if err := f.write(out); err != nil {
				return err
			}
		}
		if ahead || len(entries) < eventsBatch {
			return f.access(ctx, state)
		}
	}
}

// view is what the caller may see of an entry.
func (f *follower) view(ctx context.Context, state *authz.State, e store.Entry) (any, bool) {
	if f.platform {
		return viewEntry(e), true
	}
	view := changeEvent{
		Revision: e.Revision, Time: e.Time.UTC(), Action: e.Action, Resource: auditResource{Kind: e.Kind, ID: e.ID, Owner: e.Owner},
		Before: anyJSON(e.Before), After: anyJSON(e.After),
	}
	if f.member == "" {
		return view, true
	}
	view.Before, view.After = nil, nil
	return view, f.concerns(ctx, state, e)
}

// concerns tells whether an entry is about what the member may see: itself, what it
// was given, and by which roles.
func (f *follower) concerns(ctx context.Context, state *authz.State, e store.Entry) bool {
	account, ok := state.Account(f.owner)
	if !ok {
		return false
	}
	member, ok := account.MemberOf(f.member)
	if !ok {
		return false
	}
	switch e.Kind { //nolint:exhaustive // the rest is the owner's and the platform's own
	case policies.KindMember:
		return e.ID == string(member.ID())
	case policies.KindGrant:
		return strings.HasPrefix(e.ID, string(member.ID())+"/")
	case policies.KindEnvironment:
		return f.sees(ctx, policies.Resource{Type: policies.TypeEnvironment, ID: e.ID})
	case policies.KindGroup:
		return f.sees(ctx, policies.Resource{Type: policies.TypeGroup, ID: e.ID})
	case policies.KindRole:
		return hasRole(member, policies.RoleID(e.ID))
	case policies.KindPolicy:
		for _, role := range account.RolesUsing(policies.PolicyID(e.ID)) {
			if hasRole(member, role) {
				return true
			}
		}
	}
	return false
}

func (f *follower) sees(ctx context.Context, resource policies.Resource) bool {
	found, err := f.api.engine.Effective(ctx, f.member, resource)
	return err == nil && found.Level != ""
}

func hasRole(m authz.Member, role policies.RoleID) bool {
	for g := range m.Grants() {
		if slices.Contains(g.Roles, role) {
			return true
		}
	}
	return false
}

// access writes what the member gained and lost since the state that it knows.
func (f *follower) access(ctx context.Context, state *authz.State) error {
	before := f.state
	f.state = state
	if f.member == "" || before == state {
		return nil
	}
	changes, err := f.api.store.ChangesOf(ctx, f.owner, before.Revision(), state.Revision())
	if err != nil || len(changes) == 0 {
		return err
	}
	out := &bytes.Buffer{}
	err = difference.Change{Before: before, After: state, Objects: changes}.Each(ctx,
		difference.Options{Now: f.api.engine.Now(), Limit: maxAccessPairs},
		func(d difference.Difference) error {
			if d.Account == f.member {
				f.event(out, eventAccess, f.place, accessEvent{Revision: state.Revision(), Resource: d.Resource, Gained: d.Gained, Lost: d.Lost})
			}
			return nil
		})
	if err != nil {
		var tooMany *difference.LimitError
		if !errors.As(err, &tooMany) {
			return err
		}
		out.Reset()
		f.event(out, eventAccess, f.place, accessEvent{Revision: state.Revision(), Truncated: true})
	}
	if out.Len() == 0 {
		return nil
	}
	return f.write(out)
}

// event writes one event, with its place in the log for an id.
func (f *follower) event(out *bytes.Buffer, name string, at store.Position, data any) {
	id := at.Revision.String()
	if at.Ordinal != maxOrdinal {
		id += "." + strconv.Itoa(at.Ordinal)
	}
	writeEvent(out, name, id, data)
}

// hubSource is the log behind the engine, for those who follow it.
type hubSource struct {
	*store.Store

	engine *authz.Engine
}

// WaitFor waits for the engine.
func (s hubSource) WaitFor(ctx context.Context, revision policies.Revision) error {
	return s.engine.WaitFor(ctx, revision)
}

var _ events.Source = hubSource{}
