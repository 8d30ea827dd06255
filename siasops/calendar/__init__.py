"""The release calendar: what is planned, whether it may go ahead now, what it cost users.

model    inventory/calendar.yml as checked data
rules    conflicts, and go / no-go at the time; pure
records  what was done and what users felt, appended by procedures; the yearly figures
export   iCalendar, for the calendars that managers already look at
"""
