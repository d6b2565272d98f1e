package store

import (
	"context"
	"errors"
	"maps"

	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

// What the documents of a batch are compared with. The parameters are arrays: the
// documents' accounts; all accounts named, by id and by address; the groups and
// environments named.
const (
	sqlViewAccounts = `select id, email, email_key, display_name, created_at, revision from accounts where id = any ($1::text[])
union
select id, email, email_key, display_name, created_at, revision from accounts where email_key = any ($2::text[])`
	sqlViewGroupOwners       = `select id, owner from groups where id = any ($1::text[])`
	sqlViewEnvironmentOwners = `select id, owner from environments where id = any ($1::text[])`
	sqlViewGroups            = `select owner, id, name, parent, color, revision from groups where owner = any ($1::text[])`
	sqlViewEnvironments      = selectEnvironments + ` where e.owner = any ($1::text[])`
	sqlViewPolicies          = `select owner, id, name, description, resources, actions, revision from policies where owner = any ($1::text[])`
	sqlViewRoles             = selectRoles + ` where r.owner = any ($1::text[])`
	sqlViewMembers           = selectMembers + ` where c.owner = any ($1::text[])`
	// Addresses at which records wait for an account.
	sqlViewWaiting = `select distinct email_key from collaborations where email_key = any ($1::text[]) and not bound and account is null and status <> 'removed'`
	// Accounts that are members somewhere, and so would be followed to a new address.
	sqlViewMemberships = `select distinct account from collaborations where account = any ($1::text[])`

	sqlSystemPolicies = `select id from system_policies`

	// Whether anything that a view rests on has changed since its revision.
	// ("" owns the policy in force).
	// Changes by the transaction of the plan before do not count: the view has them.
	sqlViewIsStale = `select exists (select from revisions
    where revision > $1 and transaction <> $4 and (owners && $2::text[] or owners && $3::text[] or '' = any (owners)))`

	// The tables grow while an import runs, and the server keeps its plans: one that was
	// made while a table was small would read all of it for each batch to come. What has
	// no index then looks dear, and would be compiled.
	sqlByIndexes = `select set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)`
)

// importView is the part of the platform that a batch of documents is about, at one
// revision.
type importView struct {
	revision     policies.Revision
	system       map[policies.PolicyID]bool // the system policies
	accounts     map[policies.AccountID]accountRow
	byKey        map[string]policies.AccountID
	groups       map[policies.GroupID]policies.AccountID
	environments map[policies.EnvironmentID]policies.AccountID
	owned        map[policies.AccountID]*ownedRows
	waiting      map[string]bool
	memberships  map[policies.AccountID]bool
	// documents are those that the view has been brought up to.
	documents []policies.Document
}

// ownedRows is what one account has.
type ownedRows struct {
	groups       []groupRow
	environments []environmentRow
	policies     []policyRow
	roles        []roleRow
	members      []memberRow
}

// viewNames are the parameters of the view's queries.
type viewNames struct {
	owners, accounts, emails, groups, environments []string
}

func namesOf(batch []policies.DocumentLine) viewNames {
	var n viewNames
	for _, line := range batch {
		d := line.Document
		n.owners = append(n.owners, string(d.Account.ID))
		n.accounts = append(n.accounts, string(d.Account.ID))
		n.emails = append(n.emails, policies.EmailKey(d.Account.Email))
		for _, g := range d.Groups {
			n.groups = append(n.groups, string(g.ID))
		}
		for _, e := range d.Environments {
			n.environments = append(n.environments, string(e.ID))
		}
		for _, m := range d.Members {
			if m.Account.ID != nil {
				n.accounts = append(n.accounts, string(*m.Account.ID))
			}
			n.emails = append(n.emails, policies.EmailKey(m.Account.Email))
		}
	}
	return n
}

type idOwner struct {
	ID    string
	Owner policies.AccountID
}

// viewQueries are the queued reads of a view.
type viewQueries struct {
	names                          viewNames
	heads                          *query[head]
	system                         *query[policies.PolicyID]
	accounts                       *query[accountRow]
	groupOwners, environmentOwners *query[idOwner]
	groups                         *query[groupRow]
	environments                   *query[environmentRow]
	policies                       *query[policyRow]
	roles                          *query[roleRow]
	members                        *query[memberRow]
	waiting                        *query[string]
	memberships                    *query[policies.AccountID]
}

func queueView(queue *pgx.Batch, n viewNames) viewQueries {
	return viewQueries{
		names:             n,
		heads:             readRows(queue, pgx.RowToStructByName[head], sqlHead),
		system:            readRows(queue, pgx.RowTo[policies.PolicyID], sqlSystemPolicies),
		accounts:          readRows(queue, pgx.RowToStructByName[accountRow], sqlViewAccounts, n.accounts, n.emails),
		groupOwners:       readRows(queue, pgx.RowToStructByName[idOwner], sqlViewGroupOwners, n.groups),
		environmentOwners: readRows(queue, pgx.RowToStructByName[idOwner], sqlViewEnvironmentOwners, n.environments),
		groups:            readRows(queue, pgx.RowToStructByName[groupRow], sqlViewGroups, n.owners),
		environments:      readRows(queue, pgx.RowToStructByName[environmentRow], sqlViewEnvironments, n.owners),
		policies:          readRows(queue, pgx.RowToStructByName[policyRow], sqlViewPolicies, n.owners),
		roles:             readRows(queue, pgx.RowToStructByName[roleRow], sqlViewRoles, n.owners),
		members:           readRows(queue, pgx.RowToStructByName[memberRow], sqlViewMembers, n.owners),
		waiting:           readRows(queue, pgx.RowTo[string], sqlViewWaiting, n.emails),
		memberships:       readRows(queue, pgx.RowTo[policies.AccountID], sqlViewMemberships, n.owners),
	}
}

// view is what was read.
func (q viewQueries) view() (*importView, error) {
	head, ok := q.heads.one()
	if !ok {
		return nil, errors.New("the database has no platform: run `usher migrate`")
	}
	v := &importView{
		revision:     head.Revision,
		system:       make(map[policies.PolicyID]bool, len(q.system.rows)),
		accounts:     make(map[policies.AccountID]accountRow, len(q.accounts.rows)),
		byKey:        make(map[string]policies.AccountID, len(q.accounts.rows)),
		groups:       make(map[policies.GroupID]policies.AccountID, len(q.groupOwners.rows)),
		environments: make(map[policies.EnvironmentID]policies.AccountID, len(q.environmentOwners.rows)),
		owned:        make(map[policies.AccountID]*ownedRows, len(q.names.owners)),
		waiting:      make(map[string]bool, len(q.waiting.rows)),
		memberships:  make(map[policies.AccountID]bool, len(q.memberships.rows)),
	}
	for _, id := range q.system.rows {
		v.system[id] = true
	}
	for _, a := range q.accounts.rows {
		v.accounts[a.ID], v.byKey[a.EmailKey] = a, a.ID
	}
	for _, g := range q.groupOwners.rows {
		v.groups[policies.GroupID(g.ID)] = g.Owner
	}
	for _, e := range q.environmentOwners.rows {
		v.environments[policies.EnvironmentID(e.ID)] = e.Owner
	}
	for _, key := range q.waiting.rows {
		v.waiting[key] = true
	}
	for _, id := range q.memberships.rows {
		v.memberships[id] = true
	}
	for _, owner := range q.names.owners {
		v.owned[policies.AccountID(owner)] = &ownedRows{}
	}
	for _, r := range q.groups.rows {
		v.owned[r.Owner].groups = append(v.owned[r.Owner].groups, r)
	}
	for _, r := range q.environments.rows {
		v.owned[r.Owner].environments = append(v.owned[r.Owner].environments, r)
	}
	for _, r := range q.policies.rows {
		v.owned[r.Owner].policies = append(v.owned[r.Owner].policies, r)
	}
	for _, r := range q.roles.rows {
		v.owned[r.Owner].roles = append(v.owned[r.Owner].roles, r)
	}
	for _, r := range q.members.rows {
		v.owned[r.Owner].members = append(v.owned[r.Owner].members, r)
	}
	return v, nil
}

// planImport compares the first documents of batch with what is there now, without
// the lock. before, if not nil, is the view of the plan that is being applied, whose
// changes may not be there yet; none of its documents' accounts may be in batch.
func (s *Store) planImport(ctx context.Context, actor Actor, batch []policies.DocumentLine, before *importView) (*importPlan, error) {
	queue := &pgx.Batch{}
	queue.Queue(sqlBeginSnapshot)
	queue.Queue(sqlByIndexes)
	queries := queueView(queue, namesOf(batch))
	queue.Queue(sqlCommit)
	if err := s.pool.SendBatch(ctx, queue).Close(); err != nil {
		return nil, s.finalError(ctx, err)
	}
	view, err := queries.view()
	if err != nil {
		return nil, err
	}
	if before != nil {
		view.lay(before)
	}
	return s.plan(view, actor, batch)
}

// lay brings v up to what another plan's documents change, which may not be in what v was
// read from. It is only these: what they were planned on was there when v was read, and
// views that took over all of one another would grow with the import.
func (v *importView) lay(before *importView) {
	replaced := make(map[policies.AccountID]bool, len(before.documents))
	for _, doc := range before.documents {
		replaced[doc.Account.ID] = true
	}
	maps.DeleteFunc(v.groups, func(_ policies.GroupID, owner policies.AccountID) bool { return replaced[owner] })
	maps.DeleteFunc(v.environments, func(_ policies.EnvironmentID, owner policies.AccountID) bool { return replaced[owner] })
	for _, doc := range before.documents {
		v.put(doc)
	}
}
