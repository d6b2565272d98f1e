package authz

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/usher-authz/usher/policies"
)

// alike spares a search the evaluation of what is alike. Rego is asked for the
// first of them, and what it read is noted, in order: whose the resource is, which
// grant, which groups. Ids of what is asked about, and of the groups that these
// reads lead to, are noted as places only, so that another id under which Rego would
// read the same, step by step, has the same answer, whatever the rules make of it:
// they are a function of what they read, and ids are names of documents to them.
//
//	owners.environment[A] ─ "olga" ─▶ …mia.grants.environment[A]
//	                                    ├─ roles [dev] ─▶ Permissions
//	                                    └─ nothing ─▶ …environments[A].groups
//	                                                    ├─ none ─▶ …
//	                                                    └─ [B] ─▶ …mia.grants.group[B]
//	                                                                ├─ roles [dev] ─▶ Permissions
//	                                                                └─ nothing ─▶ …groups[B].ancestors ─ [C D] ─▶ …
//
// Rules could also compare an id with what they read. They do that with the owner's,
// which is therefore evaluated for itself; TestSearchFindsWhatChecksAllow holds that
// there is no other.
//
// It is for one subject or one resource, one owner, one state and one now, and not
// for use by several goroutines.
type alike struct {
	engine *Engine
	view   View
	now    int64
	kind   policies.ResourceType // of what is asked about; an account is one, too
	first  *look

	// Of the walk under way: what is asked about, then the groups that it came to;
	// what was read last; and the first groups.
	ids    []place
	read   []byte
	groups []byte
}

// place is an id in a walk.
type place struct {
	kind policies.ResourceType
	id   string
}

// look is one read that Rego does, what may be found there, and where that leads:
// to the next look, or to the permissions at the end.
type look struct {
	path  storage.Path // nil at the end, and in a look that is not known yet
	holes []hole
	next  map[string]*look
	found *Permissions
	// groups shortens the way from here for groups that were followed before.
	groups map[string]*Permissions
	own    bool // it reads by the id of what is asked about, not of groups alone
}

// hole is where in a path an id stands, and which.
type hole struct{ at, place int }

func newAlike(e *Engine, view View, now int64, kind policies.ResourceType) *alike {
	return &alike{engine: e, view: view, now: now, kind: kind, first: &look{}}
}

// allows answers q, whose open part is id, at owner.
func (a *alike) allows(ctx context.Context, q *Question, id string, owner policies.AccountID) (bool, error) {
	alone := id == string(owner)
	if !alone {
		if found := a.find(id); found != nil {
			return a.engine.passes(ctx, a.view, a.now, found, q)
		}
	}
	recorded := &recordedView{View: a.view}
	found, err := a.evaluate(ctx, recorded, q)
	if err != nil {
		return false, err
	}
	if !alone {
		a.learn(id, recorded.paths, found)
	}
	return a.engine.passes(ctx, a.view, a.now, found, q)
}

func (a *alike) evaluate(ctx context.Context, view View, q *Question) (*Permissions, error) {
	found, err := a.view.Policy().effectiveOf(ctx, view, at(a.now), q)
	if err != nil {
		a.engine.metrics.fails(ctx)
		return nil, err
	}
	return a.view.Policy().Compact(found, at(a.now))
}

// find gives what was found for an id that is alike, nil if there was none yet.
func (a *alike) find(id string) *Permissions {
	a.begin(id)
	var short *look
	step := a.first
	for step != nil && step.found == nil {
		if step.path == nil {
			return nil
		}
		if short == nil && readsGroups(step.path) {
			// Most resources stand in the same groups as others.
			a.fill(step)
			a.groups = appendTexts(a.groups[:0], groupsRead(a.view, step.path))
			if known := step.groups[string(a.groups)]; known != nil {
				return known
			}
			short = step
		} else if short != nil && step.own {
			return a.finish(step) // what follows is not of the groups alone
		}
		step = step.next[string(a.follow(step))]
	}
	if step == nil {
		return nil
	}
	if short != nil {
		short.groups[string(a.groups)] = step.found
	}
	return step.found
}

func (a *alike) begin(id string) { a.ids = append(a.ids[:0], place{a.kind, id}) }

func (a *alike) fill(step *look) {
	for _, h := range step.holes {
		step.path[h.at] = a.ids[h.place].id
	}
}

// follow reads where step does. Groups are given as their places; those that are new
// get one. The bytes are good until the next read.
func (a *alike) follow(step *look) []byte {
	a.fill(step)
	a.read = a.read[:0]
	if !readsGroups(step.path) {
		a.read = appendRead(a.read, a.view, step.path)
		return a.read
	}
	for _, id := range groupsRead(a.view, step.path) {
		group := place{policies.TypeGroup, string(id)}
		at := slices.Index(a.ids, group)
		if at < 0 {
			at = len(a.ids)
			a.ids = append(a.ids, group)
		}
		a.read = binary.AppendUvarint(a.read, uint64(at))
	}
	return a.read
}

// learn notes that the reads of paths led to found. Where that cannot be told by
// places, nothing is noted: it costs an evaluation, and no more.
func (a *alike) learn(id string, paths []storage.Path, found *Permissions) {
	a.begin(id)
	step := a.first
	var seen []storage.Path
	for _, path := range paths {
		holes, ok := a.holesOf(path)
		if !ok {
			return
		}
		if len(holes) == 0 || slices.ContainsFunc(seen, func(other storage.Path) bool { return slices.Equal(other, path) }) {
			continue
		}
		seen = append(seen, path)
		switch {
		case step.path == nil && step.found == nil:
			step.path, step.holes = slices.Clone(path), holes
			step.next, step.groups = map[string]*look{}, map[string]*Permissions{}
			step.own = slices.ContainsFunc(holes, func(h hole) bool { return h.place == 0 })
		case step.found != nil, !slices.Equal(step.holes, holes), !equalBeside(step.path, path, holes):
			return
		}
		read := string(a.follow(step))
		if step.next[read] == nil {
			step.next[read] = &look{}
		}
		step = step.next[read]
	}
	if step.path == nil {
		step.found = found
	}
}

// holesOf are the places of the walk's ids in path; false: there is no telling what
// else of path depends on them.
func (a *alike) holesOf(path storage.Path) (holes []hole, ok bool) {
	if path[0] != "usher" || len(path) < 2 {
		return nil, false
	}
	const first, second, third, fourth = 2, 3, 4, 7
	add := func(at int, kind policies.ResourceType) {
		if at < len(path) {
			if i := slices.Index(a.ids, place{kind, path[at]}); i >= 0 {
				holes = append(holes, hole{at, i})
			}
		}
	}
	switch path[1] {
	case "revision", "catalogue":
	case "subjects":
		add(first, policies.TypeAccount)
	case "owners":
		add(second, policies.ResourceType(path[first]))
	case "accounts":
		if len(path) <= third {
			return nil, false // a whole table
		}
		switch path[second] {
		case "environments":
			add(third, policies.TypeEnvironment)
		case "groups":
			add(third, policies.TypeGroup)
		case "members":
			if len(path) == third+1 || path[third+1] == "grants" && len(path) <= fourth {
				return nil, false // a whole member, or all grants
			}
			add(third, policies.TypeAccount)
			if len(path) > fourth {
				add(fourth, policies.ResourceType(path[fourth-1]))
			}
		}
	default:
		return nil, false
	}
	return holes, true
}

// equalBeside tells whether two paths are the same but for the holes.
func equalBeside(one, other storage.Path, holes []hole) bool {
	if len(one) != len(other) {
		return false
	}
	for i := range one {
		if one[i] != other[i] && !slices.ContainsFunc(holes, func(h hole) bool { return h.at == i }) {
			return false
		}
	}
	return true
}

// recordedView notes the paths that Rego reads from View, in order.
type recordedView struct {
	View

	paths []storage.Path
}

// finish goes the rest of the way from step.
func (a *alike) finish(step *look) *Permissions {
	for step != nil && step.found == nil {
		if step.path == nil {
			return nil
		}
		step = step.next[string(a.follow(step))]
	}
	if step == nil {
		return nil
	}
	return step.found
}

// readsGroups tells whether path leads to the groups of an environment or the
// ancestors of a group.
func readsGroups(path storage.Path) bool {
	const table, leaf = 3, 5
	return len(path) == leaf+1 && path[1] == "accounts" &&
		(path[table] == "environments" && path[leaf] == "groups" || path[table] == "groups" && path[leaf] == "ancestors")
}

// groupsRead are the groups that path reads: those of an environment, or the
// ancestors of a group; none if there is no such thing.
func groupsRead(view View, path storage.Path) []policies.GroupID {
	const account, table, key = 2, 3, 4
	owner, ok := view.Account(policies.AccountID(path[account]))
	if !ok {
		return nil
	}
	if path[table] == "groups" {
		return owner.ancestors(policies.GroupID(path[key]))
	}
	if e, ok := owner.environments.get(policies.EnvironmentID(path[key])); ok {
		return e.groups
	}
	return nil
}

// appendRead appends what Rego reads at path of view, so that two reads of one kind
// are equal only if Rego gets the same.
func appendRead(dst []byte, view View, path storage.Path) []byte {
	const account, table, key, leaf = 2, 3, 4, 5
	if len(path) == leaf+3 && path[1] == "accounts" && path[table] == "members" && path[leaf] == "grants" {
		// What stands under thousands, without the document that Rego needs.
		r := policies.Resource{Type: policies.ResourceType(path[leaf+1]), ID: path[leaf+2]}
		return appendGrant(dst, view, policies.AccountID(path[account]), policies.AccountID(path[key]), r)
	}
	if len(path) == table+1 && path[1] == "owners" {
		if owner, ok := view.OwnerOf(policies.Resource{Type: policies.ResourceType(path[account]), ID: path[table]}); ok {
			return append(append(dst, '='), owner...)
		}
		return append(dst, '-')
	}
	value, err := readUsher(view, path[1:])
	if err != nil {
		return append(dst, '-')
	}
	return append(append(dst, '='), value.String()...)
}

func appendGrant(dst []byte, view View, owner, subject policies.AccountID, r policies.Resource) []byte {
	account, ok := view.Account(owner)
	if !ok {
		return append(dst, '-')
	}
	m, ok := account.subjects.get(subject)
	if !ok {
		return append(dst, '-')
	}
	g, ok := m.grants.get(owner, r)
	if !ok {
		return append(dst, '-')
	}
	dst = appendTexts(append(dst, '='), g.roles)
	if g.ends != nil {
		dst = append(append(dst, '<'), policies.FormatTime(*g.ends)...)
	}
	return dst
}

// appendTexts appends ids with a separator that none contains.
func appendTexts[T ~string](dst []byte, ids []T) []byte {
	for _, id := range ids {
		dst = append(append(dst, id...), ' ')
	}
	return dst
}
