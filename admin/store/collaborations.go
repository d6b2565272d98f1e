package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/policies"
)

// A collaboration as its member sees it: the live grants with the names of their
// resources, as long as there is an invitation or a collaboration, and the roles in
// them. $1 is the account, $2 now.
const selectCollaborations = `select c.id, c.owner, o.email as owner_email, o.display_name as owner_name, c.member_display_name, c.status,
    c.last_changed, c.revision,
    coalesce((select json_agg(json_build_object('t', g.resource_type, 'i', g.resource_id, 'r', g.roles, 'e', g.expires_us, 'n', coalesce(
                  (select e.name from environments e where g.resource_type = 'environment' and e.owner = c.owner and e.id = g.resource_id),
                  (select e.name from groups e where g.resource_type = 'group' and e.owner = c.owner and e.id = g.resource_id), '')))
        from (select resource_type, resource_id, array_agg(role_id order by role_id) as roles,
                  min((extract(epoch from expires_at) * 1000000)::bigint) as expires_us
              from grants where owner = c.owner and collaboration_id = c.id and (expires_at is null or expires_at > $2)
              group by resource_type, resource_id) g where c.status in ('pending', 'active', 'suspended')), '[]')::text as items,
    coalesce((select json_agg(json_build_object('id', r.id, 'name', r.name, 'description', r.description, 'alerts', r.receive_load_alerts,
                  'policies', array(select p.policy_id from role_policies p where p.owner = c.owner and p.role_id = r.id order by p.policy_id)))
        from roles r where r.owner = c.owner and r.id in
            (select g.role_id from grants g where g.owner = c.owner and g.collaboration_id = c.id)), '[]')::text as roles
from collaborations c join accounts o on o.id = c.owner`

const (
	sqlCollaboration  = selectCollaborations + ` where c.account = $1 and c.id = $3`
	sqlCollaborations = selectCollaborations + ` where c.account = $1 and c.id > $3 order by c.id limit $4`
	sqlMemberAs       = selectMembers + ` where c.account = $1 and c.id = $2`
)

// Collaboration is a collaboration as its member sees it.
type Collaboration struct {
	ID          policies.CollaborationID
	Owner       policies.Account
	DisplayName string // the member's own for it
	Status      policies.Status
	LastChanged time.Time
	// Items are the live grants, by resource; none once the collaboration has ended.
	Items []CollaborationItem
}

// CollaborationItem is one thing that is shared.
type CollaborationItem struct {
	Resource policies.Resource
	// Name is the environment's or the group's, empty for the other types.
	Name string
	// Roles are sorted by name.
	Roles     []policies.Role
	ExpiresAt *time.Time
}

type collaborationRow struct {
	ID                policies.CollaborationID
	Owner             policies.AccountID
	OwnerEmail        string
	OwnerName         string
	MemberDisplayName string
	Status            policies.Status
	LastChanged       time.Time
	Revision          policies.Revision
	Items             []byte // JSON, see selectCollaborations
	Roles             []byte
}

type wireItem struct {
	wireGrant
	Name string `json:"n"`
}

type wireRole struct {
	ID                policies.RoleID     `json:"id"`
	Name              string              `json:"name"`
	Description       string              `json:"description"`
	Policies          []policies.PolicyID `json:"policies"`
	ReceiveLoadAlerts bool                `json:"alerts"`
}

func (r collaborationRow) collaboration() (Collaboration, error) {
	c := Collaboration{
		ID: r.ID, Owner: policies.Account{ID: r.Owner, Email: r.OwnerEmail, DisplayName: r.OwnerName},
		DisplayName: r.MemberDisplayName, Status: r.Status, LastChanged: policies.NormalizeTime(r.LastChanged), Items: []CollaborationItem{},
	}
	var items []wireItem
	var roles []wireRole
	if err := json.Unmarshal(r.Items, &items); err != nil {
		return c, fmt.Errorf("decode the items of collaboration %q: %w", r.ID, err)
	}
	if err := json.Unmarshal(r.Roles, &roles); err != nil {
		return c, fmt.Errorf("decode the roles of collaboration %q: %w", r.ID, err)
	}
	byID := make(map[policies.RoleID]policies.Role, len(roles))
	for _, w := range roles {
		byID[w.ID] = policies.Role(w)
	}
	for _, w := range items {
		item := CollaborationItem{Resource: policies.Resource{Type: w.Type, ID: w.ID}, Name: w.Name}
		for _, id := range w.Roles {
			item.Roles = append(item.Roles, byID[id])
		}
		slices.SortFunc(item.Roles, func(a, b policies.Role) int { return strings.Compare(a.Name, b.Name) })
		if w.Expires != nil {
			t := time.UnixMicro(*w.Expires).UTC()
			item.ExpiresAt = &t
		}
		c.Items = append(c.Items, item)
	}
	slices.SortFunc(c.Items, func(a, b CollaborationItem) int { return policies.CompareResources(a.Resource, b.Resource) })
	return c, nil
}

func (r collaborationRow) item() (Item[Collaboration], error) {
	c, err := r.collaboration()
	return Item[Collaboration]{Value: c, ETag: etag(r.Revision), Revision: r.Revision}, err
}

// GetCollaboration finds a collaboration of which account is the member, or a
// NotFoundError.
func (s *Store) GetCollaboration(ctx context.Context, account policies.AccountID, id policies.CollaborationID) (Item[Collaboration], error) {
	row, err := getOne[collaborationRow](ctx, s, "collaboration", string(id), sqlCollaboration, account, s.clock(), id)
	if err != nil {
		return Item[Collaboration]{}, err
	}
	return row.item()
}

// ListCollaborations lists the collaborations of which account is the member, by
// id, ended ones too. Errors: CursorError.
func (s *Store) ListCollaborations(ctx context.Context, account policies.AccountID, page Page) (List[Item[Collaboration]], error) {
	const list = "collaborations"
	keys, err := decodeCursor(list, page.Cursor, "")
	if err != nil {
		return List[Item[Collaboration]]{}, err
	}
	rows, err := getAll[collaborationRow](ctx, s, sqlCollaborations, account, s.clock(), keys[0], page.size()+1)
	if err != nil {
		return List[Item[Collaboration]]{}, err
	}
	return pagedErr(rows, page, collaborationRow.item, func(r collaborationRow) string { return encodeCursor(list, string(r.ID)) })
}

// UpdateCollaboration sets the member's own display name. Errors: InvalidError,
// NotFoundError, PreconditionError.
func (s *Store) UpdateCollaboration(
	ctx context.Context, call Call, account policies.AccountID, id policies.CollaborationID, displayName string,
) (Result[Collaboration], error) {
	if reason := policies.CheckName(displayName, true); reason != "" {
		return Result[Collaboration]{}, invalid("display_name", reason)
	}
	return s.changeCollaboration(ctx, call, "collaboration.update", account, id, func(_ *tx, m *memberRow, _ accountRow) error {
		m.MemberDisplayName = policies.NormalizeName(displayName)
		return nil
	})
}

// Reject declines an invitation. Errors: NotFoundError, StateError (also when the
// invitation has ended by the clock), PreconditionError; so with Leave.
func (s *Store) Reject(ctx context.Context, call Call, account policies.AccountID, id policies.CollaborationID) (Result[Collaboration], error) {
	return s.changeCollaboration(ctx, call, "collaboration.reject", account, id, func(tx *tx, m *memberRow, _ accountRow) error {
		return tx.apply(policies.EventReject, m)
	})
}

// Leave ends a collaboration from the member's side.
func (s *Store) Leave(ctx context.Context, call Call, account policies.AccountID, id policies.CollaborationID) (Result[Collaboration], error) {
	return s.changeCollaboration(ctx, call, "collaboration.leave", account, id, func(tx *tx, m *memberRow, _ accountRow) error {
		return tx.apply(policies.EventLeave, m)
	})
}

// changeCollaboration changes a record, grants apart, from the member's side.
func (s *Store) changeCollaboration(
	ctx context.Context, call Call, action string, account policies.AccountID, id policies.CollaborationID,
	change func(*tx, *memberRow, accountRow) error,
) (Result[Collaboration], error) {
	return writeResult(ctx, s, call, action, func(tx *tx, r *Result[Collaboration]) error {
		q, me := read[memberRow](tx, sqlMemberAs, account, id), read[accountRow](tx, sqlAccount, account)
		if err := tx.flush(); err != nil {
			return err
		}
		before, there := q.one()
		if err := tx.match(there, before.Revision); err != nil {
			return err
		}
		self, known := me.one()
		if !there || !known {
			return &policies.NotFoundError{Kind: "collaboration", ID: string(id)}
		}
		after := before
		if err := change(tx, &after, self); err != nil {
			return err
		}
		if !sameMember(before, after) {
			tx.updateMember(before, after)
		}
		return tx.collaborationResult(r, account, id)
	})
}

// collaborationResult fills in a result from a record as it is after the write.
func (tx *tx) collaborationResult(r *Result[Collaboration], account policies.AccountID, id policies.CollaborationID) error {
	now := read[collaborationRow](tx, sqlCollaboration, account, tx.now, id)
	if err := tx.flush(); err != nil {
		return err
	}
	row, _ := now.one()
	var err error
	r.Value, err = row.collaboration()
	r.ETag = etag(row.Revision)
	return err
}
