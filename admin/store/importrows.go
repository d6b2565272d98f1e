package store

import (
	"slices"
	"time"

	"github.com/usher-authz/usher/policies"
)

// importRows are the rows of a plan, table by table, each with the document that
// gives it its revision. They are only written by a [rowWriter].
type importRows struct {
	newAccounts, accounts         []importRow[accountRow]
	newGroups, groups             []importRow[groupRow]
	newEnvironments, environments []importRow[environmentRow]
	newPolicies, policies         []importRow[policyRow]
	newRoles, roles               []importRow[roleRow]
	newMembers, members           []importRow[memberRow]
	places                        []placeRow
	rolePolicies                  []rolePolicyRow
	grants                        []grantRoleRow

	goneGroups, goneEnvironments, gonePolicies, goneRoles, goneMembers keys
	clearedPlaces, clearedRoles                                        keys // whose places or policies are written anew
	goneGrants                                                         grantKeys
}

type importRow[R any] struct {
	document *documentPlan
	row      R
}

type placeRow struct {
	owner       policies.AccountID
	environment policies.EnvironmentID
	group       policies.GroupID
}

type rolePolicyRow struct {
	owner  policies.AccountID
	role   policies.RoleID
	policy policies.PolicyID
	custom bool
}

type grantRoleRow struct {
	owner    policies.AccountID
	member   policies.CollaborationID
	resource policies.Resource
	role     policies.RoleID
	ends     *time.Time
}

// keys are (owner, id) pairs, as parallel arrays.
type keys struct{ owners, ids []string }

func (k *keys) add(owner policies.AccountID, id string) {
	k.owners, k.ids = append(k.owners, string(owner)), append(k.ids, id)
}

// grantKeys are grants, as parallel arrays.
type grantKeys struct{ owners, members, types, ids []string }

func (k *grantKeys) add(owner policies.AccountID, member policies.CollaborationID, r policies.Resource) {
	k.owners, k.members = append(k.owners, string(owner)), append(k.members, string(member))
	k.types, k.ids = append(k.types, string(r.Type)), append(k.ids, r.ID)
}

// makes tells whether the account is among the new ones.
func (r *importRows) makes(id policies.AccountID) bool {
	return slices.ContainsFunc(r.newAccounts, func(a importRow[accountRow]) bool { return a.row.ID == id })
}

// mark and cut take back what a document wrote that must wait for the next plan.
func (r *importRows) mark() importRows { return *r }

func (r *importRows) cut(mark importRows) { *r = mark }

// rowWriter writes the rows of one document, each with what it touches.
type rowWriter struct {
	plan   *documentPlan
	rows   *importRows
	owner  policies.AccountID
	custom map[policies.PolicyID]bool
}

func (w *rowWriter) touch(t touch) { w.plan.draft.add(t) }

func put[R any](w *rowWriter, list *[]importRow[R], row R, t touch) {
	w.touch(t)
	*list = append(*list, importRow[R]{w.plan, row})
}

func (w *rowWriter) account(old *accountRow, a policies.Account, now time.Time) {
	row := accountRow{ID: a.ID, Email: a.Email, EmailKey: policies.EmailKey(a.Email), DisplayName: a.DisplayName, CreatedAt: now}
	if old == nil {
		put(w, &w.rows.newAccounts, row, made(accountObject{a}))
		return
	}
	put(w, &w.rows.accounts, row, replaced(accountObject{old.account()}, accountObject{a}))
}

func (w *rowWriter) group(old *groupRow, g policies.Group) {
	row := groupRow{Owner: w.owner, ID: g.ID, Name: g.Name, Parent: g.Parent, Color: g.Color}
	if old == nil {
		put(w, &w.rows.newGroups, row, made(groupObject{w.owner, g}))
		return
	}
	put(w, &w.rows.groups, row, replaced(groupObject{w.owner, old.group()}, groupObject{w.owner, g}))
}

func (w *rowWriter) groupGone(r groupRow) {
	w.touch(gone(groupObject{w.owner, r.group()}))
	w.rows.goneGroups.add(w.owner, string(r.ID))
}

func (w *rowWriter) environment(old *environmentRow, e policies.Environment) {
	row := environmentRow{Owner: w.owner, ID: e.ID, Name: e.Name}
	if old == nil {
		put(w, &w.rows.newEnvironments, row, made(environmentObject{w.owner, e}))
	} else {
		put(w, &w.rows.environments, row, replaced(environmentObject{w.owner, old.environment()}, environmentObject{w.owner, e}))
		w.rows.clearedPlaces.add(w.owner, string(e.ID))
	}
	for _, g := range e.Groups {
		w.rows.places = append(w.rows.places, placeRow{w.owner, e.ID, g})
	}
}

func (w *rowWriter) environmentGone(r environmentRow) {
	w.touch(gone(environmentObject{w.owner, r.environment()}))
	w.rows.clearedPlaces.add(w.owner, string(r.ID))
	w.rows.goneEnvironments.add(w.owner, string(r.ID))
}

func (w *rowWriter) policy(old *policyRow, p policies.Policy) {
	row := policyRow{Owner: w.owner, ID: p.ID, Name: p.Name, Description: p.Description, Resources: p.Resources, Actions: p.Actions}
	if old == nil {
		put(w, &w.rows.newPolicies, row, made(policyObject{w.owner, p}))
		return
	}
	put(w, &w.rows.policies, row, replaced(policyObject{w.owner, old.policy()}, policyObject{w.owner, p}))
}

func (w *rowWriter) policyGone(r policyRow) {
	w.touch(gone(policyObject{w.owner, r.policy()}))
	w.rows.gonePolicies.add(w.owner, string(r.ID))
}

func (w *rowWriter) role(old *roleRow, r policies.Role) {
	row := roleRow{Owner: w.owner, ID: r.ID, Name: r.Name, Description: r.Description, ReceiveLoadAlerts: r.ReceiveLoadAlerts}
	if old == nil {
		put(w, &w.rows.newRoles, row, made(roleObject{w.owner, r}))
	} else {
		put(w, &w.rows.roles, row, replaced(roleObject{w.owner, old.role()}, roleObject{w.owner, r}))
		w.rows.clearedRoles.add(w.owner, string(r.ID))
	}
	for _, id := range r.Policies {
		w.rows.rolePolicies = append(w.rows.rolePolicies, rolePolicyRow{w.owner, r.ID, id, w.custom[id]})
	}
}

func (w *rowWriter) roleGone(r roleRow) {
	w.touch(gone(roleObject{w.owner, r.role()}))
	w.rows.clearedRoles.add(w.owner, string(r.ID))
	w.rows.goneRoles.add(w.owner, string(r.ID))
}

// member writes a record and its grants, as far as they differ from what is there.
func (w *rowWriter) member(old *memberRow, next memberRow, grants []policies.Grant) error {
	if old == nil {
		put(w, &w.rows.newMembers, next, made(memberObject{next}))
		for _, g := range grants {
			w.grant(next.ID, nil, g)
		}
		return nil
	}
	present, err := old.grants()
	if err != nil {
		return err
	}
	before := len(w.plan.draft.touches)
	diff(present, grants, func(g policies.Grant) policies.Resource { return g.Resource }, func(g policies.Grant) policies.Resource { return g.Resource },
		sameGrant, func(had *policies.Grant, g policies.Grant) { w.grant(next.ID, had, g) }, func(g policies.Grant) { w.grantGone(next.ID, g) })
	if len(w.plan.draft.touches) > before || !sameMember(*old, next) {
		// Grants are a part of the record: it changes with them.
		put(w, &w.rows.members, next, replaced(memberObject{*old}, memberObject{next}))
	}
	return nil
}

func (w *rowWriter) memberGone(r memberRow) error {
	grants, err := r.grants()
	if err != nil {
		return err
	}
	for _, g := range grants {
		w.grantGone(r.ID, g)
	}
	w.touch(gone(memberObject{r}))
	w.rows.goneMembers.add(w.owner, string(r.ID))
	return nil
}

func (w *rowWriter) grant(member policies.CollaborationID, old *policies.Grant, g policies.Grant) {
	if old == nil {
		w.touch(made(grantObject{w.owner, member, g}))
	} else {
		w.touch(replaced(grantObject{w.owner, member, *old}, grantObject{w.owner, member, g}))
		w.rows.goneGrants.add(w.owner, member, g.Resource)
	}
	for _, role := range g.Roles {
		w.rows.grants = append(w.rows.grants, grantRoleRow{w.owner, member, g.Resource, role, g.ExpiresAt})
	}
}

func (w *rowWriter) grantGone(member policies.CollaborationID, g policies.Grant) {
	w.touch(gone(grantObject{w.owner, member, g}))
	w.rows.goneGrants.add(w.owner, member, g.Resource)
}
