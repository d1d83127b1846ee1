//! Roles and privacy: what a field is to Visitflow, and what becomes of it in the anonymized twin.
//! A schema says both on its fields (`"role"`, `"privacy"`); where it cannot be touched, the job
//! file says them by path.

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All there are, in the order of their declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word for it in schemas and job files.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            /// All words, for messages: `a, b, c`.
            pub fn words() -> String {
                [$($word,)*].join(", ")
            }
        }

        impl std::str::FromStr for $name {
            type Err = ();
            fn from_str(word: &str) -> Result<$name, ()> {
                match word { $($word => Ok($name::$variant),)* _ => Err(()) }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

pub(crate) use words;

words! {
    /// What a field is to Visitflow. A schema of measurements has at most one field of each role.
    Role {
        /// The browser; required. The unit that work is sharded by.
        BrowserId = "browser_id",
        /// The measurement's own ID; required.
        EventId = "event_id",
        /// When it happened; required. A `long` in ms (or a timestamp logical type).
        EventTime = "event_time",
        /// The `event_id` of the measurement that caused this one.
        Cause = "cause",
        /// The kind of thing it happened to.
        Entity = "entity",
        /// Which one.
        EntityId = "entity_id",
        /// What happened.
        Effect = "effect",
        /// Why the entity was there.
        Reason = "reason",
        /// The customer, when known.
        CustomerId = "customer_id",
        /// The IP address, as text. Gives the country.
        Ip = "ip",
        /// The User-Agent header. Gives the agent's class and names.
        UserAgent = "user_agent",
        /// The page's address.
        Url = "url",
        /// Where the browser came from.
        Referrer = "referrer",
        /// The value of a cart or an order, in the smallest unit of its currency.
        Value = "value",
        /// The arm of an experiment, as `experiment:arm`.
        Variant = "variant",
    }
}

impl Role {
    /// The roles without which nothing can be assigned to a visit.
    pub const REQUIRED: &'static [Role] = &[Role::BrowserId, Role::EventId, Role::EventTime];
}

words! {
    /// What becomes of a field in the anonymized twin. A field without one is an error there.
    Privacy {
        /// Copied as it is: it says nothing of a person.
        Keep = "keep",
        /// Replaced by a pseudonym: an HMAC-SHA-256 under the salt of the visit's year.
        Pseudonymize = "pseudonymize",
        /// Made coarser: an address of a page to its path, a time to its hour, an IP and a user agent
        /// to nothing.
        Generalize = "generalize",
        /// Left out.
        Drop = "drop",
    }
}
