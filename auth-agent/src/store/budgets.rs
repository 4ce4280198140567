//! Rates and amounts of limits that were set while the agent ran, in place of those of the configuration.

use serde::Serialize;
use serde_json::json;

use super::changes::Kind;
use super::values::json;
use super::{Store, StoreError};
use crate::clock::UnixTime;
use crate::config::BudgetText;

impl Store {
    /// Writes down what a limit is to allow; where it is not durable, for another agent alone that has the same.
    pub fn set_budget(
        &self,
        name: &str,
        budget: &BudgetText,
        durable: bool,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            // What was stored before does not come back with the next start.
            transaction.execute("DELETE FROM budgets WHERE name = ?1", [name])?;
            if durable {
                let row = (name, json!(budget).to_string(), now);
                transaction
                    .execute("INSERT INTO budgets (name, budget, created) VALUES (?1, ?2, ?3)", row)?;
            }
            let payload = json!({ "name": name, "budget": budget, "durable": durable });
            self.record(transaction, now, Kind::BudgetSet, &payload, None)
        })
    }

    /// Takes that back.
    pub fn remove_budget(&self, name: &str, now: UnixTime) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM budgets WHERE name = ?1", [name])?;
            self.record(transaction, now, Kind::BudgetRemove, &json!({ "name": name }), None)
        })
    }

    /// Writes down that debts to a limit were forgotten by the agent of this process id, for another that has the same.
    pub fn note_reset(
        &self,
        name: &str,
        whom: &impl Serialize,
        agent: u32,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let payload = json!({ "agent": agent, "name": name, "whom": whom });
        self.write(|transaction| self.record(transaction, now, Kind::DebtReset, &payload, None))
    }

    /// What was set, by name.
    pub fn budgets(&self) -> Result<Vec<(String, BudgetText)>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached("SELECT name, budget FROM budgets ORDER BY name")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, json(row, 1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}
