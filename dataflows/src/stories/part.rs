//! Parts what stories say by what it is.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::operate::FrontierInterest;

use super::crediting::ToCredit;
use super::question::Answer;
use super::watching::Said;
use crate::profiles::{Named, Part};
use crate::views::Contribution;

/// What stories say, by what it is.
pub struct Parted<'s> {
    /// What is added to views.
    pub contributions: StreamVec<'s, u64, Contribution>,
    /// Orders that are to be credited, and what that takes.
    pub to_credit: ToCredit<'s>,
    /// What sealed visits add to profiles.
    pub parts: StreamVec<'s, u64, Part>,
    /// Customers who are named in visits for the first time.
    pub named: StreamVec<'s, u64, Named>,
    /// Answers.
    pub answers: StreamVec<'s, u64, Answer>,
}

/// Parts what stories say. Keeps nothing.
pub fn parted<'s>(said: StreamVec<'s, u64, Said>) -> Parted<'s> {
    let mut builder = OperatorBuilder::new("Parted".to_owned(), said.scope());
    let mut input = builder.new_input(said, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (contributions, contributions_stream) = builder.new_output();
    let (orders, orders_stream) = builder.new_output();
    let (answers, answers_stream) = builder.new_output();
    let (parts, parts_stream) = builder.new_output();
    let (customers, customers_stream) = builder.new_output();
    let (named, named_stream) = builder.new_output();
    let mut contributions = Output::from(contributions);
    let mut orders = Output::from(orders);
    let mut answers = Output::from(answers);
    let mut parts = Output::from(parts);
    let mut customers = Output::from(customers);
    let mut named = Output::from(named);
    builder.build(move |caps| {
        drop(caps);
        move |_| {
            input.for_each(|cap, said| {
                let (mut to_views, mut of_orders) = (Vec::with_capacity(said.len()), vec![]);
                let (mut answered, mut of_profiles) = (vec![], vec![]);
                let (mut of_customers, mut who) = (vec![], vec![]);
                for said in said.drain(..) {
                    match said {
                        Said::Contribution(contribution) => to_views.push(contribution),
                        Said::Order(at, order) => of_orders.push((at, order)),
                        Said::Customer(customer) => of_customers.push(customer),
                        Said::Answer(answer) => answered.push(answer),
                        Said::Part(part) => of_profiles.push(*part),
                        Said::Named(customer) => who.push(*customer),
                    }
                }
                let at = |port| cap.retain_least(port).expect("what is said has a time");
                if !to_views.is_empty() {
                    let mut output = contributions.activate();
                    output.session(&at(0)).give_container(&mut to_views);
                }
                if !of_orders.is_empty() {
                    let mut output = orders.activate();
                    output.session(&at(1)).give_container(&mut of_orders);
                }
                if !answered.is_empty() {
                    answers
                        .activate()
                        .session(&at(2))
                        .give_container(&mut answered);
                }
                if !of_profiles.is_empty() {
                    let mut output = parts.activate();
                    output.session(&at(3)).give_container(&mut of_profiles);
                }
                if !of_customers.is_empty() {
                    let mut output = customers.activate();
                    output.session(&at(4)).give_container(&mut of_customers);
                }
                if !who.is_empty() {
                    named.activate().session(&at(5)).give_container(&mut who);
                }
            });
        }
    });
    Parted {
        contributions: contributions_stream,
        to_credit: ToCredit {
            orders: orders_stream,
            customers: customers_stream,
        },
        parts: parts_stream,
        named: named_stream,
        answers: answers_stream,
    }
}

type Output<D> = OutputBuilder<u64, CapacityContainerBuilder<Vec<D>>>;
