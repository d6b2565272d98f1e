package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/usher-authz/usher/admin/rights"
	"github.com/usher-authz/usher/policies"
)

const (
	sqlGroup     = `select owner, id, name, parent, color, revision from groups where id = $1`
	sqlGroupOf   = `select owner, id, name, parent, color, revision from groups where owner = $1 and id = $2`
	sqlGroups    = `select owner, id, name, parent, color, revision from groups where owner = $1 and id > $2 order by id limit $3`
	sqlAllGroups = `with recursive tree as (
    select owner, id, name, parent, color, revision, 1 as depth from groups where owner = $1 and parent is null
    union all
    select g.owner, g.id, g.name, g.parent, g.color, g.revision, tree.depth + 1 from tree join groups g on g.owner = $1 and g.parent = tree.id
)
select owner, id, name, parent, color, revision from tree order by depth, id`
	sqlChildGroups = `select owner, id, name, parent, color, revision from groups where owner = $1 and parent = $2 order by id`
	// The group named and all above it, nearest first.
	sqlGroupChain = `with recursive chain as (
    select id, parent, 1 as depth from groups where owner = $1 and id = $2
    union all
    select g.id, g.parent, chain.depth + 1 from chain join groups g on g.owner = $1 and g.id = chain.parent
    where chain.depth <= $3
)
select id from chain order by depth`
	// How many levels the group named and those below it have.
	sqlGroupHeight = `with recursive below as (
    select id, 1 as depth from groups where owner = $1 and id = $2
    union all
    select g.id, below.depth + 1 from below join groups g on g.owner = $1 and g.parent = below.id
    where below.depth <= $3
)
select coalesce(max(depth), 1) from below`
	sqlSiblings = `select id, name from groups where owner = $1 and parent is not distinct from $2 and name_key = any ($3::text[])`

	sqlInsertGroup = `insert into groups (owner, id, name, name_key, parent, color, revision) values ($1, $2, $3, $4, $5, $6, $7)`
	sqlUpdateGroup = `update groups set name = $3, name_key = $4, parent = $5, color = $6, revision = $7 where owner = $1 and id = $2`
	sqlMoveGroups  = `update groups set parent = $3, revision = $4 where owner = $1 and id = any ($2::text[])`
	sqlDeferNames  = `set constraints groups_name_key deferred`
	sqlDeleteGroup = `delete from groups where owner = $1 and id = $2`

	sqlMovePlaces = `insert into environment_groups (owner, environment_id, group_id)
select $1, environment_id, $3 from environment_groups where owner = $1 and group_id = $2
on conflict do nothing`
	sqlDeletePlacesIn = `delete from environment_groups where owner = $1 and group_id = $2`
)

type groupRow struct {
	Owner    policies.AccountID
	ID       policies.GroupID
	Name     string
	Parent   *policies.GroupID
	Color    string
	Revision policies.Revision
}

func (r groupRow) group() policies.Group {
	return policies.Group{ID: r.ID, Name: r.Name, Parent: r.Parent, Color: r.Color}
}

func (r groupRow) item() Item[policies.Group] {
	return Item[policies.Group]{Value: r.group(), ETag: etag(r.Revision), Revision: r.Revision}
}

// groupObject is a group as the log has it.
type groupObject struct {
	owner policies.AccountID
	policies.Group
}

func (o groupObject) key() objectKey {
	return objectKey{kind: policies.KindGroup, owner: o.owner, id: string(o.ID)}
}
func (o groupObject) body() any { return policies.GroupBody{Parent: o.Parent} }
func (o groupObject) public() any {
	return struct {
		Name  string `json:"name"`
		Color string `json:"color"`
	}{o.Name, o.Color}
}
func (groupObject) personal() any { return nil }

func sameGroup(a, b policies.Group) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Color == b.Color && samePointer(a.Parent, b.Parent)
}

func samePointer[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

type siblingRow struct {
	ID   policies.GroupID
	Name string
}

// PutGroup makes or changes a group. To a member that does not see its parent a group
// stands at the root; so named, it stays where it is. Errors: InvalidError (also for a
// parent that is not there, that makes a cycle, or that nests too deep), NotFoundError
// (the owner), TakenError (the id is another account's, the name a sibling's),
// PreconditionError.
func (s *Store) PutGroup(ctx context.Context, call Call, owner policies.AccountID, group policies.Group) (Result[policies.Group], error) {
	if err := policies.Invalid(group.Validate()); err != nil {
		return Result[policies.Group]{}, err
	}
	group = group.Normalize()
	return writeResult(ctx, s, call, "group.put", func(tx *tx, r *Result[policies.Group]) error {
		owned := tx.readOwner(owner)
		present := read[groupRow](tx, sqlGroup, group.ID)
		place := tx.readPlace(owner, group)
		if err := tx.flush(); err != nil {
			return err
		}
		old, there := present.one()
		group := group
		if hidden, err := tx.parentHidden(owner, old, group); err != nil {
			return err
		} else if hidden {
			group.Parent = old.Parent
			place = tx.readPlace(owner, group)
			if err := tx.flush(); err != nil {
				return err
			}
		}
		if err := tx.require(owner, groupNeeds(owner, old, there, group)); err != nil {
			return err
		}
		if err := owned.check(); err != nil {
			return err
		}
		if there && old.Owner != owner {
			return &policies.TakenError{Field: "id", Value: string(group.ID), Reason: "belongs to another account"}
		}
		if err := tx.match(there, old.Revision); err != nil {
			return err
		}
		if err := place.check(group); err != nil {
			return err
		}
		*r = Result[policies.Group]{Value: group, ETag: etag(tx.revision()), Created: !there}
		key := policies.NameKey(group.Name)
		switch {
		case !there:
			tx.change(sqlInsertGroup, []any{owner, group.ID, group.Name, key, group.Parent, group.Color, tx.revision()}, made(groupObject{owner, group}))
		case sameGroup(old.group(), group):
			r.ETag = etag(old.Revision)
		default:
			tx.change(sqlUpdateGroup, []any{owner, group.ID, group.Name, key, group.Parent, group.Color, tx.revision()},
				replaced(groupObject{owner, old.group()}, groupObject{owner, group}))
		}
		return nil
	})
}

// parentHidden tells whether a group that is put at the root has a parent that the
// writer does not see.
func (tx *tx) parentHidden(owner policies.AccountID, old groupRow, group policies.Group) (bool, error) {
	if old.Owner != owner || old.Parent == nil || group.Parent != nil {
		return false, nil
	}
	hidden, err := tx.hiddenGroups(owner, *old.Parent)
	return len(hidden) > 0, err
}

// groupNeeds are the rights to make or change a group: to make it where it will
// stand, and to edit it if it is there.
func groupNeeds(owner policies.AccountID, old groupRow, there bool, group policies.Group) []rights.Need {
	place := policies.Resource{Type: policies.TypeGroups, ID: string(owner)}
	if group.Parent != nil {
		place = policies.Resource{Type: policies.TypeGroup, ID: string(*group.Parent)}
	}
	create := rights.On(rights.CreateGroup, place)
	if !there || old.Owner != owner {
		return create
	}
	edit := rights.On(rights.EditGroup, policies.Resource{Type: policies.TypeGroup, ID: string(group.ID)})
	if samePointer(old.Parent, group.Parent) {
		return edit
	}
	return append(edit, create...)
}

// groupPlace is what stands above a group's new place, how tall the group is, and who
// has its name there.
type groupPlace struct {
	chain    *query[policies.GroupID]
	height   *query[int]
	siblings *query[siblingRow]
}

func (tx *tx) readPlace(owner policies.AccountID, group policies.Group) groupPlace {
	p := groupPlace{
		chain: &query[policies.GroupID]{}, height: readValues[int](tx, sqlGroupHeight, owner, group.ID, policies.MaxGroupDepth),
		siblings: read[siblingRow](tx, sqlSiblings, owner, group.Parent, []string{policies.NameKey(group.Name)}),
	}
	if group.Parent != nil {
		p.chain = readValues[policies.GroupID](tx, sqlGroupChain, owner, *group.Parent, policies.MaxGroupDepth)
	}
	return p
}

// check refuses a place that is not there, below the group itself, too deep, or where
// another group has the name.
func (p groupPlace) check(group policies.Group) error {
	height, _ := p.height.one()
	switch {
	case group.Parent == nil:
	case len(p.chain.rows) == 0:
		return invalid("parent", fmt.Sprintf("%q is not a group of this account", *group.Parent))
	case slices.Contains(p.chain.rows, group.ID):
		return invalid("parent", "makes a cycle of groups")
	case len(p.chain.rows)+height > policies.MaxGroupDepth:
		return invalid("parent", fmt.Sprintf("nests groups more than %d deep", policies.MaxGroupDepth))
	}
	for _, sibling := range p.siblings.rows {
		if sibling.ID != group.ID {
			return &policies.TakenError{Field: "name", Value: group.Name, Reason: "is the name of a group beside it already"}
		}
	}
	return nil
}

// GetGroup finds a group of owner, or a NotFoundError.
func (s *Store) GetGroup(ctx context.Context, owner policies.AccountID, id policies.GroupID) (Item[policies.Group], error) {
	row, err := getOne[groupRow](ctx, s, "group", string(id), sqlGroupOf, owner, id)
	return row.item(), err
}

// ListGroups lists the groups of owner that keep wants, by id. Errors: NotFoundError
// (the owner), CursorError, that of keep.
func (s *Store) ListGroups(
	ctx context.Context, owner policies.AccountID, keep Keep[policies.GroupID], page Page,
) (List[Item[policies.Group]], error) {
	return listByID(ctx, s, "groups", owner, keep, page, sqlGroups, groupRow.item, func(r groupRow) policies.GroupID { return r.ID })
}

// DeleteGroup removes a group: the groups and environments in it move to its parent
// or the root, the grants on it disappear. Errors: NotFoundError, PreconditionError,
// TakenError (a child has the name of a group of the parent).
func (s *Store) DeleteGroup(ctx context.Context, call Call, owner policies.AccountID, id policies.GroupID) (Result[struct{}], error) {
	return writeResult(ctx, s, call, "group.delete", func(tx *tx, _ *Result[struct{}]) error {
		present, children := read[groupRow](tx, sqlGroupOf, owner, id), read[groupRow](tx, sqlChildGroups, owner, id)
		inside := read[environmentRow](tx, sqlEnvironmentsIn, owner, id)
		grants := tx.readGrantsOn(owner, policies.Resource{Type: policies.TypeGroup, ID: string(id)})
		if err := tx.flush(); err != nil {
			return err
		}
		if err := tx.require(owner, rights.On(rights.RemoveGroup, policies.Resource{Type: policies.TypeGroup, ID: string(id)})); err != nil {
			return err
		}
		group, there := present.one()
		if err := tx.match(there, group.Revision); err != nil {
			return err
		}
		if !there {
			return &policies.NotFoundError{Kind: "group", ID: string(id)}
		}
		if err := tx.checkNamesInParent(group, children.rows); err != nil {
			return err
		}
		if err := tx.dropGrants(grants.rows); err != nil {
			return err
		}
		tx.emptyGroup(group, children.rows, inside.rows)
		tx.change(sqlDeleteGroup, []any{owner, id}, gone(groupObject{owner, group.group()}))
		return nil
	})
}

// checkNamesInParent refuses to move groups to where their names are taken.
func (tx *tx) checkNamesInParent(group groupRow, children []groupRow) error {
	if len(children) == 0 {
		return nil
	}
	keys := make([]string, 0, len(children))
	for _, c := range children {
		keys = append(keys, policies.NameKey(c.Name))
	}
	siblings := read[siblingRow](tx, sqlSiblings, group.Owner, group.Parent, keys)
	if err := tx.flush(); err != nil {
		return err
	}
	for _, sibling := range siblings.rows {
		if sibling.ID != group.ID {
			return &policies.TakenError{
				Field: "name", Value: sibling.Name,
				Reason: "is the name of a child group, which would move to where a group has that name: rename one of the two first",
			}
		}
	}
	return nil
}

// emptyGroup moves what is in a group to its parent.
func (tx *tx) emptyGroup(group groupRow, children []groupRow, inside []environmentRow) {
	if len(children) > 0 {
		ids := make([]string, 0, len(children))
		touches := make([]touch, 0, len(children))
		// A child may have the name of the group that it replaces in the parent.
		tx.queue.Queue(sqlDeferNames)
		for _, c := range children {
			before, after := c.group(), c.group()
			after.Parent = group.Parent
			ids = append(ids, string(c.ID))
			touches = append(touches, replaced(groupObject{group.Owner, before}, groupObject{group.Owner, after}))
		}
		tx.change(sqlMoveGroups, []any{group.Owner, ids, group.Parent, tx.revision()}, touches...)
	}
	if len(inside) == 0 {
		return
	}
	ids := make([]string, 0, len(inside))
	touches := make([]touch, 0, len(inside))
	for _, e := range inside {
		before, after := e.environment(), e.environment()
		after.Groups = slices.DeleteFunc(slices.Clone(after.Groups), func(g policies.GroupID) bool { return g == group.ID })
		if group.Parent != nil {
			after.Groups = append(after.Groups, *group.Parent)
		}
		ids = append(ids, string(e.ID))
		touches = append(touches, replaced(environmentObject{group.Owner, before}, environmentObject{group.Owner, after.Normalize()}))
	}
	if group.Parent != nil {
		tx.change(sqlMovePlaces, []any{group.Owner, group.ID, *group.Parent}, touches...)
	}
	tx.change(sqlDeletePlacesIn, []any{group.Owner, group.ID}, touches...)
	tx.change(sqlStampEnvironments, []any{group.Owner, ids, tx.revision()}, touches...)
}
