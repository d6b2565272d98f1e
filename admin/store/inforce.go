package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/usher-authz/usher/authz"
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

// inForcePublic is what the audit shows of a policy in force: what a security team put
// there stands in full, the rest by its digest.
type inForcePublic struct {
	Digest     policies.Hash     `json:"digest"`
	Guardrails map[string]string `json:"guardrails,omitempty"`
}

// inForceObject is the policy in force as the log has it.
type inForceObject struct{ policies.PolicyInForce }

func (inForceObject) key() objectKey {
	return objectKey{kind: policies.KindPolicyInForce, id: string(policies.KindPolicyInForce)}
}
func (o inForceObject) body() any { return o.PolicyInForce }
func (o inForceObject) public() any {
	return inForcePublic{o.Digest, o.Guardrails()}
}
func (inForceObject) personal() any { return nil }

// errNoPolicyInForce says that nobody has migrated yet.
var errNoPolicyInForce = errors.New("no policy is in force: run `usher migrate`")

// PolicyInForce is the catalogue and the Rego that decide now, and the revision at
// which they came in force.
func (s *Store) PolicyInForce(ctx context.Context) (policies.PolicyInForce, policies.Revision, error) {
	rows, err := s.pool.Query(ctx, sqlPolicyInForce)
	if err != nil {
		return policies.PolicyInForce{}, 0, translate(err)
	}
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[policyInForceRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return policies.PolicyInForce{}, 0, errNoPolicyInForce
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

// errPolicyMoved says that another write of the policy in force came between.
var errPolicyMoved = errors.New("the policy in force was changed by somebody else at the same time, again and again: try again")

// changePolicyInForce makes what change makes of the policy in force decide from now
// on. It takes a while to compile and test Rego, and every writer would wait for it;
// so check is asked before the lock is taken, and what comes in force is what it saw,
// or it is asked again.
func (s *Store) changePolicyInForce(
	ctx context.Context, call Call, action string,
	change func(present policies.PolicyInForce) (policies.PolicyInForce, error), check func(context.Context, policies.PolicyInForce) error,
) (Result[policies.PolicyInForce], error) {
	for range maxAttempts {
		present, _, err := s.PolicyInForce(ctx)
		if err != nil && !errors.Is(err, errNoPolicyInForce) {
			return Result[policies.PolicyInForce]{}, err
		}
		next, err := change(present)
		if err != nil {
			return Result[policies.PolicyInForce]{}, err
		}
		if err := check(ctx, next); err != nil {
			return Result[policies.PolicyInForce]{}, err
		}
		result, err := writeResult(ctx, s, call, action, func(tx *tx, r *Result[policies.PolicyInForce]) error {
			return tx.putPolicyInForce(next, change, r)
		})
		if !errors.Is(err, errPolicyMoved) {
			return result, err
		}
	}
	return Result[policies.PolicyInForce]{}, errPolicyMoved
}

// putPolicyInForce puts checked in force, if it still is what change makes.
func (tx *tx) putPolicyInForce(
	checked policies.PolicyInForce, change func(policies.PolicyInForce) (policies.PolicyInForce, error), r *Result[policies.PolicyInForce],
) error {
	present := read[policyInForceRow](tx, sqlPolicyInForce)
	if err := tx.flush(); err != nil {
		return err
	}
	var before object
	var old policies.PolicyInForce
	row, there := present.one()
	if err := tx.match(there, row.Revision); err != nil {
		return err
	}
	if there {
		var err error
		if old, err = row.decode(); err != nil {
			return err
		}
		before = inForceObject{old}
	}
	next, err := change(old)
	switch {
	case err != nil:
		return err
	case next.Digest != checked.Digest:
		return errPolicyMoved
	case there && next.Digest == old.Digest:
		*r = Result[policies.PolicyInForce]{Value: next, ETag: etag(row.Revision)}
		return nil
	}
	if err := tx.checkCatalogue(old.Catalogue, next.Catalogue); err != nil {
		return err
	}
	body, err := policies.CanonicalJSON(next)
	if err != nil {
		return fmt.Errorf("encode the policy in force: %w", err)
	}
	t := touch{before: before, after: inForceObject{next}}
	ids := systemIDs(next.Catalogue)
	tx.change(sqlInsertPolicyInForce, []any{next.Digest[:], string(body), tx.revision()}, t)
	tx.change(sqlSetPolicyInForce, []any{next.Digest[:]}, t)
	tx.change(sqlInsertSystemPolicies, []any{ids}, t)
	tx.change(sqlDeleteSystemPolicies, []any{ids}, t)
	*r = Result[policies.PolicyInForce]{Value: next, ETag: etag(tx.revision()), Created: len(old.Guardrails()) == 0}
	return nil
}

// putEmbedded makes the catalogue and the Rego of a binary decide from now on, with the
// guardrails that there are: they are a security team's, and no upgrade takes them out
// of force. Guardrails that do not compile with the Rego are a [GuardrailsError].
func (s *Store) putEmbedded(ctx context.Context, call Call, embedded policies.PolicyInForce) (Result[policies.PolicyInForce], error) {
	return s.changePolicyInForce(ctx, call, "policy_in_force.put",
		func(present policies.PolicyInForce) (policies.PolicyInForce, error) {
			return embedded.WithGuardrails(present.Guardrails())
		},
		func(ctx context.Context, next policies.PolicyInForce) error {
			if len(next.Guardrails()) == 0 {
				return nil
			}
			if _, err := authz.NewPolicy(ctx, next); err != nil {
				return &GuardrailsError{Err: err}
			}
			return nil
		})
}

// GetGuardrails is the policy in force, with its ETag.
func (s *Store) GetGuardrails(ctx context.Context) (Item[policies.PolicyInForce], error) {
	p, revision, err := s.PolicyInForce(ctx)
	return Item[policies.PolicyInForce]{Value: p, ETag: etag(revision), Revision: revision}, err
}

// PutGuardrails makes modules the guardrails in force, in place of all that there are.
// test is asked before about the whole policy that would come in force, without holding
// up other writers; its error is returned as it is. The ETag is that of the policy in
// force. Errors: PreconditionError.
func (s *Store) PutGuardrails(
	ctx context.Context, call Call, modules map[string]string, test func(context.Context, policies.PolicyInForce) error,
) (Result[policies.PolicyInForce], error) {
	return s.changePolicyInForce(ctx, call, "guardrails.put",
		func(present policies.PolicyInForce) (policies.PolicyInForce, error) {
			return present.WithGuardrails(modules)
		}, test)
}

// DeleteGuardrails takes all guardrails out of force. Errors: PreconditionError.
func (s *Store) DeleteGuardrails(ctx context.Context, call Call) (Result[policies.PolicyInForce], error) {
	return s.changePolicyInForce(ctx, call, "guardrails.delete",
		func(present policies.PolicyInForce) (policies.PolicyInForce, error) {
			return present.WithGuardrails(nil)
		},
		func(context.Context, policies.PolicyInForce) error { return nil })
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
