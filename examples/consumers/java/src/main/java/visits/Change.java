package visits;

import java.util.List;

/** What {@link JoinVisits} says of visits. */
sealed interface Change {
    /** A visit has begun. */
    record Started() implements Change {}

    /** Measurements belong to another visit than was said. */
    record Revised() implements Change {}

    /** A visit names a customer for the first time, of whom something is known or nothing. */
    record Named(boolean isKnown) implements Change {}

    /** A visit is sealed: these are its measurements, in order, and nothing can change them any more. */
    record Ended(byte[] visit, String reason, List<Position> measurements) implements Change {}
}
