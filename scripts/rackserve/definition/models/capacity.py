"""Prices and planning: what the advice on capacity and cost needs to know from people."""

from typing import Annotated

from pydantic import Field

from rackserve.definition.models.base import Amount, Count, Currency, Day, Name, Percent, Strict


class Prices(Strict):
    """Inputs of every money figure; shown beside it."""

    currency: Currency = Field(description="Currency of all amounts")
    node_price: Amount = Field(description="Price of one GPU node; a host may say its own as node_price")
    node_lifetime_months: Count = Field(description="Months over which it is written off")
    node_month: Amount = Field(
        default=0, description="Rent, housing and service of one node for a month, without power"
    )
    node_power_watts: Amount | None = Field(
        default=None,
        description="Power of a node under load, where no energy counter is read; a host may say its own",
    )
    kwh_price: Amount = Field(default=0, description="Price of one kilowatt hour, cooling included")


class CalendarEvent(Strict):
    """Days known to be different, marked in the load profile."""

    name: Name = Field(description="What happens")
    first: Day = Field(description="First day")
    last: Day | None = Field(default=None, description="Last day; default: the first")


class Capacity(Strict):
    """Assumptions of the advice."""

    minimum_days: Count = Field(default=7, description="With fewer days of data the answer is: not enough data")
    growth_percent_per_month: Annotated[float, Field(ge=-50, le=200)] = Field(
        default=0, description="Expected growth of traffic"
    )
    horizon_months: Annotated[int, Field(ge=1, le=36)] = Field(default=6, description="How far ahead to plan")
    availability_percent: Annotated[float, Field(gt=0, lt=100)] = Field(
        default=99.5, description="Availability that the business needs"
    )
    peak_margin_percent: Percent | None = Field(
        default=None, description="Replaces the margin from the measured peak factor"
    )
    budget_months: Count | None = Field(default=None, description="Months for which running cost is budgeted")
    events: tuple[CalendarEvent, ...] = Field(default=(), description="Days known to be different")
