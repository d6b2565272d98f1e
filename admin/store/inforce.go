package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/policies"
)

const (
	sqlPolicyInForce = `select f.body, f.revision from platform p join policies_in_force f on f.digest = p.policy_digest`

	sqlInsertPolicyInForce = `insert into policies_in_force (digest, body, revision) values ($1, $2, $3)
on conflict on constraint policies_in_force_pkey do update set revision = excluded.revision`
	sqlSetPolicyInForce     = `update platform set policy_digest = $1`
	sqlInsertSystemPolicies = `insert into system_policies (id) select unnest($1::text[]) on conflict do nothing`
	sqlDeleteSystemPolicies = `delete from system_policies where id <> all ($1::text[])`

	sqlRolesWithSystemPolicies = `select owner, role_id as id, system_policy as what from role_policies
where system_policy = any ($1::text[]) limit $2`
	sqlPoliciesWithActions = `select p.owner, p.id, a.what from policies p, unnest(p.actions) as a (what)
where p.actions && $1::text[] and a.what = any ($1::text[]) limit $2`
	sqlPoliciesWithIDs = `select owner, id, id as what from policies where id = any ($1::text[]) limit $2`
)

// maxCatalogueProblems is how many reasons a [CatalogueError] gives of each sort.
const maxCatalogueProblems = 100

type policyInForceRow struct {
	Body     string
	Revision policies.Revision
}

// catalogueUse is a role or a custom policy of an owner that stands in a
// catalogue's way.
type catalogueUse struct {
	Owner policies.AccountID
	ID    string
	What  string
}

// inForceObject is the policy in force as the log has it.
type inForceObject struct{ policies.PolicyInForce }

func (inForceObject) key() objectKey {
	return objectKey{kind: policies.KindPolicyInForce, id: string(policies.KindPolicyInForce)}
}
func (o inForceObject) body() any { return o.PolicyInForce }
func (o inForceObject) public() any {
	return struct {
		Digest policies.Hash `json:"digest"`
	}{o.Digest}
}
func (inForceObject) personal() any { return nil }

// PolicyInForce is the catalogue and the Rego that decide now, and the revision at
// which they came in force.
func (s *Store) PolicyInForce(ctx context.Context) (policies.PolicyInForce, policies.Revision, error) {
	rows, err := s.pool.Query(ctx, sqlPolicyInForce)
	if err != nil {
		return policies.PolicyInForce{}, 0, translate(err)
	}
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[policyInForceRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return policies.PolicyInForce{}, 0, errors.New("no policy is in force: run `usher migrate`")
	}
	if err != nil {
		return policies.PolicyInForce{}, 0, translate(err)
	}
	p, err := row.decode()
	return p, row.Revision, err
}

func (r policyInForceRow) decode() (p policies.PolicyInForce, err error) {
	if err := json.Unmarshal([]byte(r.Body), &p); err != nil {
		return p, fmt.Errorf("decode the policy in force of revision %d: %w", r.Revision, err)
	}
	return p, nil
}

// putPolicyInForce makes p decide from now on.
func (s *Store) putPolicyInForce(ctx context.Context, call Call, p policies.PolicyInForce) (outcome, error) {
	return s.write(ctx, call, "policy_in_force.put", func(tx *tx) error {
		present := read[policyInForceRow](tx, sqlPolicyInForce)
		if err := tx.flush(); err != nil {
			return err
		}
		var before object
		if row, ok := present.one(); ok {
			old, err := row.decode()
			if err != nil {
				return err
			}
			if old.Digest == p.Digest {
				return nil
			}
			if err := tx.checkCatalogue(old.Catalogue, p.Catalogue); err != nil {
				return err
			}
			before = inForceObject{old}
		} else if err := tx.checkCatalogue(policies.Catalogue{}, p.Catalogue); err != nil {
			return err
		}
		body, err := policies.CanonicalJSON(p)
		if err != nil {
			return fmt.Errorf("encode the policy in force: %w", err)
		}
		t := touch{before: before, after: inForceObject{p}}
		ids := systemIDs(p.Catalogue)
		tx.change(sqlInsertPolicyInForce, []any{p.Digest[:], string(body), tx.revision()}, t)
		tx.change(sqlSetPolicyInForce, []any{p.Digest[:]}, t)
		tx.change(sqlInsertSystemPolicies, []any{ids}, t)
		tx.change(sqlDeleteSystemPolicies, []any{ids}, t)
		return nil
	})
}

func systemIDs(c policies.Catalogue) []string {
	ids := make([]string, 0, len(c.Policies))
	for _, p := range c.Policies {
		ids = append(ids, string(p.ID))
	}
	return ids
}

// checkCatalogue looks for what uses that which next lacks of old, and for custom
// policies whose ids next takes.
func (tx *tx) checkCatalogue(old, next policies.Catalogue) error {
	oldIndex, nextIndex := old.Index(), next.Index()
	var dropped, added []string
	policiesWith := map[string][]policies.ActionName{} // system policy that loses actions altogether
	actions := map[policies.ActionName]bool{}
	for _, p := range old.Policies {
		if !nextIndex.IsSystem(p.ID) {
			dropped = append(dropped, string(p.ID))
		}
		for _, a := range p.Actions {
			if !nextIndex.KnowsAction(a) {
				actions[a] = true
				policiesWith[string(p.ID)] = append(policiesWith[string(p.ID)], a)
			}
		}
	}
	for _, p := range next.Policies {
		if !oldIndex.IsSystem(p.ID) {
			added = append(added, string(p.ID))
		}
	}
	roles := read[catalogueUse](tx, sqlRolesWithSystemPolicies, dropped, maxCatalogueProblems)
	losing := read[catalogueUse](tx, sqlRolesWithSystemPolicies, slices.Sorted(maps.Keys(policiesWith)), maxCatalogueProblems)
	custom := read[catalogueUse](tx, sqlPoliciesWithActions, slices.Sorted(maps.Keys(actions)), maxCatalogueProblems)
	taken := read[catalogueUse](tx, sqlPoliciesWithIDs, added, maxCatalogueProblems)
	if err := tx.flush(); err != nil {
		return err
	}
	var problems []string
	for _, u := range roles.rows {
		problems = append(problems, fmt.Sprintf("it drops the policy %q, which the role %q of account %q uses", u.What, u.ID, u.Owner))
	}
	for _, u := range losing.rows {
		for _, a := range policiesWith[u.What] {
			problems = append(problems, fmt.Sprintf("it drops the action %q, which the role %q of account %q uses by the policy %q", a, u.ID, u.Owner, u.What))
		}
	}
	for _, u := range custom.rows {
		problems = append(problems, fmt.Sprintf("it drops the action %q, which the custom policy %q of account %q names", u.What, u.ID, u.Owner))
	}
	for _, u := range taken.rows {
		problems = append(problems, fmt.Sprintf("it takes the id %q of a custom policy of account %q", u.What, u.Owner))
	}
	if problems != nil {
		slices.Sort(problems)
		return &CatalogueError{Problems: problems}
	}
	return nil
}
